"""The dashboards of the chart. `tests/deploy/run dashboards` writes them into helm/atoll/dashboards; the test of
the chart holds the files to this description. Usage: dashboards.py ROOT"""

import pathlib
import sys

from panels import Panel, dashboard, quantiles, runbook_base, stat, text

KV = 'route=~"/v1/kv/.*",@'
OURS = 'container=~"request-router|storage-node|membership-svc|anti-entropy-worker",@'
BAD_IF_ANY = (("green", None), ("red", 1))
WARN_IF_ANY = (("green", None), ("orange", 1))


def per_second(metric: str, by: str = "", matchers: str = "@") -> str:
    """Rate of a counter, summed over all but `by`."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({metric}{{{matchers}}}[R]))"


def deviation(window_s: int) -> str:
    """How far each host's load is from its fair share by weight, as part of that share."""
    operations = f'atoll_load_operations{{@,window_s="{window_s}"}}'
    share = f"sum by (pod) (atoll_load_weight{{@}}) * on () group_left () (sum ({operations}) / sum (atoll_load_weight{{@}}))"
    return f"sum by (pod) ({operations}) / ({share}) - 1"


def share(le: str) -> str:
    """Share of the reads that returned more versions than `le`."""
    return (f'1 - sum(rate(atoll_versions_per_read_bucket{{le="{le}",@}}[R])) / sum(rate(atoll_versions_per_read_count{{@}}[R]))')


AVAILABILITY = (f'1 - (sum(rate(atoll_http_requests_total{{{KV},status="5xx"}}[R])) or vector(0))'
                f" / sum(rate(atoll_http_requests_total{{{KV}}}[R]))")
P999 = quantiles("atoll_http_request_seconds", matchers=KV, of=("0.999",))[0][1]

OVERVIEW = {
    "Now": [[
        stat("Requests", "reqps", "Object requests per second, all routers.", per_second("atoll_http_requests_total", matchers=KV)),
        stat("Availability", "percentunit", "Share of the object requests that did not end with 5xx.", AVAILABILITY, maximum=1,
             steps=(("red", None), ("orange", 0.99), ("green", 0.999)), alerts=("AtollRequestsRefused",)),
        stat("p99.9", "s", "99.9 % of the object requests are answered within this time.", P999,
             steps=(("green", None), ("orange", 0.1), ("red", 0.3)), alerts=("AtollRequestsSlow",)),
        stat("Members", "none", "Members of the ring.", 'max(atoll_membership_nodes{status="member",@})'),
        stat("Unreachable", "none", "Peers that some host does not reach.", 'max(atoll_peers{state="down",@})', steps=BAD_IF_ANY,
             alerts=("AtollPeerDown",)),
        stat("Pending", "none", "Partitions whose owner does not hold the data yet.", "max(atoll_membership_partitions_pending{@})",
             steps=WARN_IF_ANY, alerts=("AtollPartitionsPending",)),
    ]],
    "Requests": [[
        Panel("Requests by outcome", "reqps", "Object requests by method and class of status.",
              ("{{method}} {{status}}", per_second("atoll_http_requests_total", "method, status", KV)), alerts=("AtollRequestsRefused",)),
        Panel("Latency", "s", "Time from the head of an object request to the head of its answer, at the routers.",
              *quantiles("atoll_http_request_seconds", matchers=KV), alerts=("AtollRequestsSlow",)),
        Panel("Availability over time", "percentunit", "Share of the object requests that did not end with 5xx.",
              ("available", AVAILABILITY), minimum=None, maximum=1, alerts=("AtollRequestsRefused",)),
    ], [
        Panel("Errors by code", "reqps", "Refusals by the code that clients see, and whether a write may have happened; docs/errors.md says what each means.",
              ("{{code}}, {{outcome}}", per_second("atoll_router_refusals_total", "code, outcome") + " > 0"), alerts=("AtollRequestsRefused",)),
        Panel("p99.9 by operation and host", "s", "At the coordinators, answered requests only: which host is slow.",
              *quantiles("atoll_coordinator_seconds", "pod, operation", 'outcome="ok",@', ("0.999",)), alerts=("AtollRequestsSlow",)),
        Panel("Coordinated requests by outcome", "reqps", "How requests ended at their coordinators.",
              ("{{operation}} {{outcome}}", per_second("atoll_coordinator_seconds_count", "operation, outcome") + " > 0"),
              alerts=("AtollRequestsRefused",)),
    ]],
    "Versions and quorums": [[
        Panel("Versions per read", "percentunit", "Share of the reads that returned more than one version, and more than two.",
              ("more than 1", share("1")), ("more than 2", share("2")), alerts=("AtollSiblingsMany",)),
        Panel("Acknowledgements", "percentunit", "Replicas that had answered when the client got its answer, as a share of the answers.",
              *((name, f"sum(rate(atoll_coordinator_acks_bucket{{le=\"{le}\",@}}[R])) / sum(rate(atoll_coordinator_acks_count{{@}}[R]))")
                for name, le in (("at most 1", "1"), ("at most 2", "2"), ("at most 3", "3"))), maximum=1),
        Panel("Fallbacks", "reqps", "Requests in which a fallback stood in for a primary, and replicas handed over as hints.",
              ("requests with a fallback", per_second("atoll_fallbacks_used_total")),
              ("replicas sent as hints", per_second("atoll_hints_sent_total")), alerts=("AtollPeerDown",)),
    ], [
        Panel("Read repairs", "reqps", "Stale replicas found by reads and made up to date, and those left to anti-entropy.",
              ("repaired", per_second("atoll_read_repairs_total")), ("left undone", per_second("atoll_read_repairs_skipped_total"))),
        Panel("Retries and hedges", "reqps", "Requests that a router sent to a further coordinator, and puts that came twice.",
              ("retries", per_second("atoll_router_retries_total")), ("hedges", per_second("atoll_router_hedges_total")),
              ("hedges that won", per_second("atoll_router_hedges_won_total")),
              ("puts repeated", per_second("atoll_puts_repeated_total")), ("puts known already", per_second("atoll_puts_replayed_total"))),
        Panel("Shed", "reqps", "Requests refused at once because a process was full, by pool.",
              ("{{container}} {{pool}}", per_second("atoll_admission_shed_total", "container, pool")), alerts=("AtollShedding",)),
    ]],
    "Load": [[
        Panel("Coordinators chosen", "reqps", "Why routers chose the coordinator that they chose.",
              ("{{reason}}", per_second("atoll_router_coordinator_choices_total", "reason"))),
        Panel("Value sizes", "bytes", "Bytes of the values written and read.",
              *((f"written {n}", q) for n, q in quantiles("atoll_router_value_bytes_in", of=("0.5", "0.99"))),
              *((f"read {n}", q) for n, q in quantiles("atoll_router_value_bytes_out", of=("0.5", "0.99")))),
        Panel("In flight", "none", "Requests that are being answered, by process.",
              ("{{container}}", "sum by (container) (atoll_http_requests_in_flight{@})"), alerts=("AtollShedding",)),
    ]],
}

REPLICATION = {
    "Now": [[
        stat("Lag, p99", "s", "From the answer of a put until all N replicas have it.",
             quantiles("atoll_replication_lag_seconds", of=("0.99",))[0][1],
             steps=(("green", None), ("orange", 0.5), ("red", 1)), alerts=("AtollReplicationSlow",)),
        stat("Fresh after 10 ms", "percentunit", "Probability that a read of one replica sees a put that one replica acknowledged 10 ms before.",
             'min(atoll_freshness_ratio{r="1",w="1",after_ms="10",@})', maximum=1,
             steps=(("red", None), ("orange", 0.9), ("green", 0.99)), alerts=("AtollReadsStale",)),
        stat("Hints", "none", "Replicas kept for hosts that do not take them.", "sum(atoll_hints{@})", steps=WARN_IF_ANY,
             alerts=("AtollHintsGrowing",)),
        stat("Moving", "none", "Partitions that are being copied or given up.",
             'sum(atoll_transfer_partitions{state!~"held|no_holder",@})', steps=WARN_IF_ANY, alerts=("AtollPartitionsPending",)),
        stat("Without holder", "none", "Partitions that nobody is known to hold.",
             'max(atoll_transfer_partitions{state="no_holder",@})', steps=BAD_IF_ANY, alerts=("AtollPartitionWithoutHolder",)),
        stat("Exchange lag", "s", "Longest time since some host found everything equal with all others; -1 before the first round.",
             "max(atoll_anti_entropy_lag_seconds{@})", minimum=None, steps=(("green", None), ("orange", 600), ("red", 1800)),
             alerts=("AtollExchangesStale",)),
    ]],
    "How fresh": [[
        Panel("Replication lag", "s", "From the answer of a put until all N replicas have it, while no host is away.",
              *quantiles("atoll_replication_lag_seconds"), alerts=("AtollReplicationSlow",)),
        Panel("Replication lag by coordinator, p99", "s", "The coordinator whose replicas are slow to get its writes.",
              *quantiles("atoll_replication_lag_seconds", "pod", of=("0.99",)), alerts=("AtollReplicationSlow",)),
        Panel("Read repairs", "reqps", "Stale replicas that reads found.",
              ("{{pod}}", per_second("atoll_read_repairs_total", "pod"))),
    ], [
        Panel("Fresh after a time, r=1 w=1", "percentunit",
              "Probability that a read of one replica sees a put that one replica acknowledged so many milliseconds before (PBS).",
              ("{{after_ms}} ms", 'min by (after_ms) (atoll_freshness_ratio{r="1",w="1",@})'), minimum=None, maximum=1,
              alerts=("AtollReadsStale",)),
        Panel("Fresh at once, by quorum", "percentunit", "Probability that a read right after the answer of a put sees it, where quorums do not overlap.",
              ("n={{n}} r={{r}} w={{w}}", 'min by (n, r, w) (atoll_freshness_ratio{after_ms="0",@})'), minimum=None, maximum=1,
              alerts=("AtollReadsStale",)),
        Panel("Time until 99.9 % are fresh", "s", "Time after the answer of a put from which on 99.9 % of the reads see it, where quorums do not overlap.",
              ("n={{n}} r={{r}} w={{w}}", "max by (n, r, w) (atoll_freshness_after_seconds{@})"), alerts=("AtollReadsStale",)),
    ]],
    "Hints": [[
        Panel("Hints held", "none", "By the host that keeps them.", ("{{pod}}", "sum by (pod) (atoll_hints{@})"),
              alerts=("AtollHintsGrowing",)),
        Panel("Flow of hints", "cps", "Taken in, delivered, dropped undelivered, and messages that failed.",
              ("stored", per_second("atoll_hints_stored_total")), ("delivered", per_second("atoll_hints_delivered_total")),
              ("dropped, {{reason}}", per_second("atoll_hints_dropped_total", "reason")),
              ("failed messages", per_second("atoll_hint_delivery_failures_total")), alerts=("AtollHintsDropped",)),
        Panel("Bytes of hints", "bytes", "By the host that keeps them.", ("{{pod}}", "sum by (pod) (atoll_hint_bytes{@})"),
              alerts=("AtollHintsDropped",)),
    ]],
    "Partitions on the move": [[
        Panel("Partitions by state", "none", "What is not simply held; docs/operations.md says what each state means.",
              ("{{state}}", 'sum by (state) (atoll_transfer_partitions{state!="held",@})'), stack=True,
              alerts=("AtollPartitionsPending", "AtollPartitionWithoutHolder")),
        Panel("Records copied and dropped", "cps", "Records that new owners copied, and that former owners deleted.",
              ("copied to {{pod}}", per_second("atoll_transfer_records_total", "pod")),
              ("dropped by {{pod}}", per_second("atoll_transfer_dropped_records_total", "pod"))),
        Panel("Bytes copied", "Bps", "Bytes of records that new owners copied.",
              ("{{pod}}", per_second("atoll_transfer_bytes_total", "pod"))),
    ], [
        Panel("Held and wanted", "none", "Partitions that each host holds completely, and those that it is to have.",
              ("{{pod}} holds", "sum by (pod) (atoll_partitions_held{@})"), ("{{pod}} wants", "sum by (pod) (atoll_partitions_wanted{@})"),
              alerts=("AtollPartitionsPending",)),
        Panel("Standstill", "s", "Time for which a running transfer has made no progress at most.",
              ("{{pod}}", "max by (pod) (atoll_transfer_stalled_seconds{@})"), alerts=("AtollTransferStalled",)),
        Panel("Failed steps", "cps", "Steps of transfers that failed and are tried again, and records that a source could not read.",
              ("failed at {{pod}}", per_second("atoll_transfer_failures_total", "pod")),
              ("unreadable for {{pod}}", per_second("atoll_transfer_unreadable_records_total", "pod")),
              alerts=("AtollTransferStalled",)),
    ]],
    "Anti-entropy": [[
        Panel("Exchange lag", "s", "Time since each host found every partition equal with every other owner; -1 before the first round.",
              ("{{pod}}", "max by (pod) (atoll_anti_entropy_lag_seconds{@})"), minimum=None, alerts=("AtollExchangesStale",)),
        Panel("Exchanges", "cps", "Comparisons by how they ended.",
              ("{{result}}", per_second("atoll_anti_entropy_rounds_total", "result")), alerts=("AtollExchangesStale", "AtollWorkerPaused")),
        Panel("Duration of exchanges", "s", "Time that comparisons took.",
              *quantiles("atoll_anti_entropy_round_seconds", of=("0.5", "0.99"))),
    ], [
        Panel("Keys that differed", "cps", "Keys that differed at first sight, that only had a write on its way, and that could not be repaired.",
              ("differing", per_second("atoll_anti_entropy_keys_differing_total")),
              ("settled", per_second("atoll_anti_entropy_keys_settled_total")),
              ("refused", per_second("atoll_anti_entropy_keys_refused_total"))),
        Panel("Keys repaired", "cps", "Keys that comparisons made equal, by direction.",
              ("{{direction}}", per_second("atoll_anti_entropy_keys_repaired_total", "direction"))),
        Panel("Bytes of the worker", "Bps", "Messages to and from storage nodes of other hosts, by what for.",
              ("{{kind}} {{direction}}", per_second("atoll_worker_bytes_total", "kind, direction"))),
    ], [
        Panel("Partitions behind", "none", "Partitions that the last comparisons of each host did not find equal with some other.",
              ("{{pod}}", "max by (pod) (atoll_anti_entropy_partitions_behind{@})"), alerts=("AtollExchangesStale", "AtollRecordsUnrepaired")),
        Panel("Which partition is behind, and where", "none", "By partition and host: how many others did not find its replica equal. The host that most others name is the one to look at; the worst partitions only.",
              ("{{partition}} at {{peer_name}}", "count by (partition, peer_name) (atoll_anti_entropy_partition_behind_seconds{@})"),
              alerts=("AtollExchangesStale", "AtollRecordsUnrepaired")),
        Panel("How long it has been behind", "s", "By partition: the longest time since two of its replicas were found equal; -1 for never.",
              ("{{partition}}", "max by (partition) (atoll_anti_entropy_partition_behind_seconds{@})"), minimum=None,
              alerts=("AtollExchangesStale",)),
    ]],
    "Tombstones and scrub": [[
        Panel("Reaped", "cps", "Dead keys: examined, removed everywhere, shortened, and postponed for want of evidence.",
              *((name, per_second(f"atoll_reap_{name}_keys_total")) for name in ("examined", "removed", "truncated", "postponed"))),
        Panel("Orders of the reaper", "cps", "What storage nodes did with the orders of the reaper.",
              ("{{result}}", per_second("atoll_reap_orders_total", "result"))),
        Panel("Scrub", "cps", "Records whose checksum was verified, and leaves of the tree that differed from their records.",
              ("verified by {{pod}}", per_second("atoll_scrub_records_total", "pod")),
              ("mismatches at {{pod}}", per_second("atoll_scrub_mismatches_total", "pod")), alerts=("AtollScrubMismatches", "AtollScrubOverdue")),
    ]],
}

STATES = {0: "healthy", 1: "read-only", 2: "reopening", 3: "damaged", 4: "full"}

NODE = {
    "Now": [[
        stat("Store", "none", "State of the worst file.", "max(atoll_store_state{@})", mappings=STATES, steps=BAD_IF_ANY,
             alerts=("AtollStoreUnhealthy",)),
        stat("Processes down", "none", "Processes that cannot be scraped.", f"count(up{{{OURS}}} == 0) or vector(0)", steps=BAD_IF_ANY,
             alerts=("AtollProcessDown",)),
        stat("Ring", "none", "Number of the ring in use; all hosts have the same.", "max(atoll_ring_version{@})",
             alerts=("AtollRingVersionsDiffer",)),
        stat("Held", "none", "Partitions held completely.", "sum(atoll_partitions_held{@})"),
        stat("Free", "bytes", "Bytes free on the fullest disk, the reserve not counted.", "min(atoll_store_free_bytes{@})",
             alerts=("AtollDiskFillsUp",)),
        stat("Uptime", "s", "Time since the youngest process began.", f"min(time() - process_start_time_seconds{{{OURS}}})",
             alerts=("AtollProcessRestarts",)),
    ]],
    "Store": [[
        Panel("State", "none", "0 healthy, 1 read-only after a failure, 2 reopening, 3 damaged, 4 disk full.",
              ("{{pod}} {{file}}", "max by (pod, file) (atoll_store_state{@})"), mappings=STATES, maximum=4, alerts=("AtollStoreUnhealthy",)),
        Panel("Commits, p99", "s", "Time of a group commit, the sync included.",
              *quantiles("atoll_store_commit_seconds", "pod, file", of=("0.99",)), alerts=("AtollRequestsSlow",)),
        Panel("Writes per commit", "none", "Mean number of writes that shared one commit.",
              ("{{pod}} {{file}}", "sum by (pod, file) (rate(atoll_store_batch_jobs_sum{@}[R])) / sum by (pod, file) (rate(atoll_store_batch_jobs_count{@}[R]))")),
    ], [
        Panel("Queue of the writer", "none", "Writes that wait for a commit.",
              ("{{pod}} {{file}}", "max by (pod, file) (atoll_store_queue_depth{@})"), alerts=("AtollStoreQueueFull",)),
        Panel("Wait for the writer, p99", "s", "Time that the oldest write of a commit had waited.",
              *quantiles("atoll_store_queue_wait_seconds", "pod, file", of=("0.99",)), alerts=("AtollStoreQueueFull",)),
        Panel("Refused and failed", "cps", "Writes refused by a full queue or a full disk, commits and reads that failed.",
              ("queue full, {{pod}}", per_second("atoll_store_rejected_total", "pod")),
              ("disk full, {{pod}}", per_second("atoll_store_refused_full_total", "pod")),
              ("commits failed, {{pod}}", per_second("atoll_store_commit_failures_total", "pod")),
              ("reads failed, {{pod}}", per_second("atoll_store_read_failures_total", "pod")), alerts=("AtollCommitsFail",)),
    ], [
        Panel("Free space", "bytes", "Bytes free on the disk of the data, the reserve not counted.",
              ("{{pod}}", "min by (pod) (atoll_store_free_bytes{@})"), alerts=("AtollDiskFillsUp", "AtollDiskFull")),
        Panel("Damage", "none", "Unreadable keys that are not repaired yet, and damaged files that were set aside.",
              ("{{pod}} keys", "sum by (pod) (atoll_corrupt_keys{@})"),
              ("{{pod}} files", "sum by (pod) (atoll_store_set_aside_files{@})"), alerts=("AtollCorruptRecords", "AtollRecordsUnrepaired", "AtollFilesSetAside")),
        Panel("Tree", "none", "Changes of the tree that are not folded yet, and whether the tree is complete (1).",
              ("{{pod}} changes", "max by (pod) (atoll_tree_log_entries{@})"), ("{{pod}} complete", "min by (pod) (atoll_tree_built{@})"),
              alerts=("AtollTreeIncomplete",)),
    ]],
    "Replica work": [[
        Panel("Answers to peers, p99", "s", "Which host is slow: 99 of 100 messages to its replicas took at most this long, as the peer measured that sees it best.",
              ("{{peer_name}}", "min by (peer_name) (atoll_peer_p99_seconds{@})"), alerts=("AtollRequestsSlow",)),
        Panel("Share of the load", "percentunit", "How far each host's operations are from its fair share by weight, over half an hour. A host is out of balance from 15 % on.",
              ("{{pod}}", deviation(1800)), minimum=None),
        Panel("Hosts out of balance", "percentunit", "The imbalance ratio: the part of the hosts whose load deviates by 15 % or more from their fair share.",
              ("over a minute", f"(count (abs ({deviation(60)}) >= 0.15) or vector(0)) / count ({deviation(60)})"),
              ("over half an hour", f"(count (abs ({deviation(1800)}) >= 0.15) or vector(0)) / count ({deviation(1800)})"), maximum=1),
    ], [
        Panel("Operations for other coordinators", "cps", "What other coordinators asked for.",
              ("{{operation}}", per_second("atoll_replica_ops_total", "operation"))),
        Panel("Replica messages, p99", "s", "Time of a message of another coordinator, the commit included: a slow host.",
              *quantiles("atoll_replica_message_seconds", "pod", of=("0.99",)), alerts=("AtollRequestsSlow",)),
        Panel("Operations per message", "none", "Mean number of operations that travelled to a peer together.",
              ("{{pod}}", "sum by (pod) (rate(atoll_peer_batch_ops_sum{@}[R])) / sum by (pod) (rate(atoll_peer_batch_ops_count{@}[R]))")),
    ], [
        Panel("Peers", "none", "Peers that each host trusts, and those that it does not reach.",
              ("{{pod}} {{state}}", "sum by (pod, state) (atoll_peers{@})"), alerts=("AtollPeerDown",)),
        Panel("Calls to peers", "cps", "Calls between hosts and processes by how they ended.",
              ("{{container}} {{result}}", per_second("atoll_peer_calls_total", "container, result"))),
        Panel("Refused messages", "cps", "Messages of peers refused by the gate, and gossip refused as a whole.",
              ("{{container}} {{code}}", per_second("atoll_peer_refused_total", "container, code")),
              ("gossip {{reason}}", per_second("atoll_membership_gossip_refused_total", "reason")),
              ("queue of a peer full", per_second("atoll_peer_queue_full_total")), alerts=("AtollPeerMessagesRefused",)),
    ], [
        Panel("Credentials refused", "cps", "Requests refused for their API key, and messages whose sender did not prove to be of the cluster.",
              ("clients {{reason}}", per_second("atoll_auth_refused_total", "reason")),
              ("hosts {{container}} {{reason}}", per_second("atoll_peer_auth_refused_total", "container, reason")),
              alerts=("AtollPeersNotBelieved",)),
        Panel("Files of keys and certificates", "none", "1 where a changed file is of no use and the last good content stays in force.",
              ("{{pod}} {{container}} {{file}}", "max by (pod, container, file) (atoll_file_stale{@})"), maximum=1, alerts=("AtollKeysStale",)),
    ], [
        Panel("TLS handshakes", "cps", "Handshakes of new connections, and why others failed.",
              ("{{container}} ok", per_second("atoll_tls_handshakes_total", "container")),
              ("{{container}} {{reason}}", per_second("atoll_tls_handshakes_failed_total", "container, reason")),
              alerts=("AtollPeersNotBelieved",)),
        Panel("Time left of certificates", "s", "Time until the certificate in use expires.",
              ("{{pod}} {{container}}", "min by (pod, container) (atoll_tls_certificate_expires_timestamp_seconds{@}) - time()"), minimum=None,
              alerts=("AtollCertificateExpires",)),
    ]],
    "Background work": [[
        Panel("Slices", "none", "Slices of background work: there are, in use, waited for.",
              ("{{pod}} there are", "sum by (pod) (atoll_slices{@})"), ("{{pod}} in use", "sum by (pod) (atoll_slices_in_use{@})"),
              ("{{pod}} waiting", "sum by (pod) (atoll_slices_waiting{@})")),
        Panel("What the controller sees", "s", "p99 of requests and of commits, and the longest wait for a writer, over the last minute.",
              ("{{pod}} requests", "max by (pod) (atoll_slices_foreground_p99_seconds{@})"),
              ("{{pod}} commits", "max by (pod) (atoll_slices_store_p99_seconds{@})"),
              ("{{pod}} wait", "max by (pod) (atoll_slices_queue_wait_seconds{@})")),
        Panel("Slices granted", "cps", "By kind of work, and those refused.",
              ("{{kind}}", per_second("atoll_slices_granted_total", "kind")),
              ("refused, {{reason}}", per_second("atoll_slices_refused_total", "reason"))),
    ]],
    "Membership and gossip": [[
        Panel("Gossip", "cps", "Rounds opened, by how they ended.",
              ("{{result}}", per_second("atoll_membership_gossip_rounds_total", "result")), alerts=("AtollGossipStuck",)),
        Panel("Bytes of gossip", "Bps", "Bytes of gossip messages by direction.",
              ("{{direction}}", per_second("atoll_membership_gossip_bytes_total", "direction")), alerts=("AtollGossipFlood",)),
        Panel("Age of agreement", "s", "Time since each host found a peer with equal membership; -1 before the first.",
              ("{{pod}}", "max by (pod) (atoll_membership_convergence_age_seconds{@})"), minimum=None, alerts=("AtollGossipStuck", "AtollStorageSilent")),
    ], [
        Panel("Ring in use", "none", "Number of the ring by process; all converge to one.",
              ("{{pod}} {{container}}", "max by (pod, container) (atoll_ring_watch_version{@})"), alerts=("AtollRingVersionsDiffer",)),
        Panel("Age of the ring", "s", "Time since the agent confirmed the ring to the processes of its host, as of the last poll.",
              ("{{pod}} {{container}}", "max by (pod, container) (atoll_ring_watch_age_seconds{@})"), minimum=None,
              alerts=("AtollRingStale", "AtollNodeFenced")),
        Panel("Placement", "none", "Where the ring falls short of the ideal, by what is short.",
              ("{{kind}}", "max by (kind) (atoll_membership_placement_violations{@})"), alerts=("AtollReplicasCrowded",)),
    ], [
        Panel("Membership", "none", "Nodes that are known, by status.",
              ("{{status}}", "max by (status) (atoll_membership_nodes{@})")),
        Panel("History", "none", "Events of the membership, and changes that are staged.",
              ("events", "max(atoll_membership_history_events{@})"), ("staged", "max(atoll_membership_staged_changes{@})")),
        Panel("Epochs", "none", "Actor epochs that ended because data was or may have been lost.",
              ("{{pod}}", "sum by (pod) (atoll_actor_epochs_ended_total{@})"), alerts=("AtollEpochEnded",)),
    ]],
    "Processes": [[
        Panel("CPU", "percentunit", "Cores in use, by process.",
              ("{{pod}} {{container}}", f"sum by (pod, container) (rate(process_cpu_seconds_total{{{OURS}}}[R]))")),
        Panel("Memory", "bytes", "Resident memory, by process.",
              ("{{pod}} {{container}}", f"sum by (pod, container) (process_resident_memory_bytes{{{OURS}}})")),
        Panel("File descriptors", "percentunit", "Share of the permitted descriptors that is in use.",
              ("{{pod}} {{container}}", f"max by (pod, container) (process_open_fds{{{OURS}}} / process_max_fds{{{OURS}}})"), maximum=1,
              alerts=("AtollDescriptorsRunOut",)),
    ], [
        Panel("Connections", "none", "Open connections by process.",
              ("{{pod}} {{container}}", "sum by (pod, container) (atoll_http_connections{@})")),
        Panel("Requests in flight", "none", "Requests that are being answered, by process.",
              ("{{pod}} {{container}}", "sum by (pod, container) (atoll_http_requests_in_flight{@})"), alerts=("AtollShedding",)),
        Panel("Panics and refused connections", "cps", "Handlers that panicked, connections over the cap or dropped as too slow.",
              ("{{container}} panics", per_second("atoll_http_panics_total", "container")),
              ("{{container}} over the cap", per_second("atoll_http_connections_over_cap_total", "container")),
              ("{{container}} dropped", per_second("atoll_http_connections_dropped_total", "container")), alerts=("AtollHandlerPanics",)),
    ]],
}

ALL = {
    "overview": ("Overview", "What users of the cluster see.", OVERVIEW),
    "replication": ("Replication", "Whether replicas keep up: lag, hints, transfers, anti-entropy, removal of what is dead.", REPLICATION),
    "node": ("Hosts", "What each host does: store, background work, gossip, processes.", NODE),
}


def files(root: pathlib.Path) -> dict[str, str]:
    """Every dashboard by the name of its file."""
    base = runbook_base(root)
    return {f"{name}.json": text(dashboard(name, title, about, rows, base)) for name, (title, about, rows) in ALL.items()}


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) / "helm/atoll/dashboards"
    for name, content in files(pathlib.Path(sys.argv[1])).items():
        (folder / name).write_text(content)
