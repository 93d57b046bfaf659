/* cluster.h - this process as one replica among others: its bus subjects, its claims, and submissions that
 * reach a replica that does not sequence.
 *
 *     ol.replica.<n>          what replicas say to replica n (replica_wire.h)
 *     ol.replica.<n>.submit   a SignedTx for the sequencer n, from another replica; answered when final
 *     ol.epoch.claim          stream OL_EPOCHS: claims, each expecting the one before
 *
 * A lone replica (--replica-count 1) uses none of them. The worker's own, as the desk. */
#pragma once

#include "services/settlement/replica.h"
#include "shared/bus/bus.h"
#include "shared/rpc/rpc.h"
#include "shared/service/service.h"

struct desk;
struct cluster;

struct cluster_options {
    struct desk *desk; /* borrowed */
    struct service *service;
    struct settlement_options settlement;
    uint32_t self, replicas, takeover_ms;
};

/* Opens the replica and its settlement (desk->settlement), and takes part. genesis: copied. */
MUST_USE enum err cluster_open(const struct cluster_options *options, struct cluster **out_cluster,
                               struct note *note);
void cluster_close(struct cluster *cluster); /* after service_run(); NULL is fine */

/* Does this replica sequence now? [any thread] */
bool cluster_leads(const struct cluster *cluster);
struct replica *cluster_replica(struct cluster *cluster);
/* Every 50 ms. An error stops the service. */
void cluster_tick(struct cluster *cluster);

/* Defers call and has the sequencer answer it, or the next one when it dies meanwhile: for as long as the
 * caller waits. signed_tx must live as long as the call. */
MUST_USE enum err cluster_forward(struct cluster *cluster, struct rpc_call *call,
                                  struct bytes signed_tx);
/* Answers a submission that another replica forwarded; takes message. */
void cluster_answer(struct cluster *cluster, struct bus_message *message, enum err err,
                    const struct settlement_result *result, const struct note *note);
