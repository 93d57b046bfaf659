/* main.c - the openledger command line: finds the command and runs it. */
#include "services/openledger/cli.h"
#include "services/openledger/commands.h"

int main(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"up", "run the whole suite on this machine", cmd_up},
        {"down", "stop it", cmd_down},
        {"status", "show what runs", cmd_status},
        {"keys", "make and list key pairs", cmd_keys},
        {"account", "open, show and list accounts", cmd_account},
        {"balance", "what an account has", cmd_balance},
        {"transfer", "send OPEN", cmd_transfer},
        {"linked", "transfers of several accounts, all or none", cmd_linked},
        {"hold", "money that an arbiter decides about", cmd_hold},
        {"claims", "vesting, and payments to long lists", cmd_claims},
        {"recovery", "guardians that can replace a lost key", cmd_recovery},
        {"report", "evidence against who signed two things, or a wrong one", cmd_report},
        {"stake", "bonds, delegations and what they earn", cmd_stake},
        {"governance", "parameters, proposals, votes", cmd_governance},
        {"datanet", "create, contribute, review, publish, show", cmd_datanet},
        {"model", "register and list base models", cmd_model},
        {"train", "order and follow the training of adapters", cmd_train},
        {"adapter", "publish and show adapters", cmd_adapter},
        {"grant", "set money aside for inference, get an API key", cmd_grant},
        {"chat", "ask an adapter", cmd_chat},
        {"attribution", "whose data shaped an answer", cmd_attribution},
        {"verify", "check everything again, from log and blobs alone", cmd_verify},
        {"witness", "replay the log and cosign its checkpoints", cmd_witness},
        {"block", "a block's header", cmd_block},
        {"prove", "prove a transaction, balance, receipt or payout", cmd_prove},
        {"demo", "the whole loop on real text", cmd_demo},
        {"corpus", "cut installed public texts into training rows", cmd_corpus},
        {"tokenizer", "learn a vocabulary, encode, decode", cmd_tokenizer},
        {"pretrain", "train a base model from text", cmd_pretrain},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger", COMMANDS, argc, argv);
}
