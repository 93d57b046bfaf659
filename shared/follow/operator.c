/* operator.c - see operator.h. */
#include "shared/follow/operator.h"

#include "shared/platform/file.h"

enum err operator_open(struct operator_account *account, const char *folder, const char *key_file,
                       enum ledger_role role, const char *name, struct note *note)
{
    char path[FILE_PATH_SIZE];
    *account = (struct operator_account){.role = role, .name = name};
    enum err err = key_file[0] != '\0' ? file_path(path, "%s", key_file)
                                       : file_path(path, "%s/key.json", folder);
    if (err == ERR_OK) {
        err = key_pair_load_or_create(path, "", &account->keys, note);
    }
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(account->keys), &account->id);
    }
    return err;
}

void operator_close(struct operator_account *account)
{
    key_pair_destroy(account->keys);
    account->keys = NULL;
}

static enum err submit_bond(struct operator_account *account, struct follow *follow,
                            struct amount amount)
{
    char text[AMOUNT_TEXT_SIZE];
    (void)amount_format(amount, text);
    Openledger__V1__Bond bond = OPENLEDGER__V1__BOND__INIT;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    bond.role = (Openledger__V1__Role)account->role;
    bond.amount = text;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_BOND;
    action.bond = &bond;
    return follow_submit(follow, &action, &account->id, account->keys, OPERATOR_SUBMIT_MS, NULL,
                         NULL, &account->why);
}

bool operator_ready(struct operator_account *account, struct follow *follow, uint64_t now_ms)
{
    const struct ledger *ledger = follow_ledger(follow);
    if (ledger == NULL || !follow_caught_up(follow)) {
        (void)note_set(&account->why, ERR_UNAVAILABLE, "catching up with the ledger");
        return false;
    }
    if (ledger_is_bonded(ledger, &account->id, account->role)) {
        account->why.text[0] = '\0';
        return true;
    }
    if (now_ms < account->retry_at_ms) {
        return false;
    }
    account->retry_at_ms = now_ms + OPERATOR_RETRY_MS;
    const struct ledger_account *found = ledger_account(ledger, &account->id);
    struct amount wanted = ledger_parameters(ledger)->minimum_bond;
    if (found == NULL || amount_compare(found->balance, wanted) < 0) {
        char id[ACCOUNT_ID_TEXT_SIZE];
        char amount[AMOUNT_TEXT_SIZE];
        (void)note_set(&account->why, ERR_FUNDS, "account %s needs %s OPEN for its bond",
                       account_id_format(&account->id, id), amount_format(wanted, amount));
        return false;
    }
    enum err err = follow_ensure_account(follow, account->keys, account->name, OPERATOR_SUBMIT_MS,
                                         &account->why);
    if (err == ERR_OK) {
        err = submit_bond(account, follow, wanted);
    }
    return err == ERR_OK && ledger_is_bonded(follow_ledger(follow), &account->id, account->role);
}
