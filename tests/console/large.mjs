// What the endpoints would answer for a cluster far larger than this machine can run: the shapes are
// those of the real ones, the numbers made up.

const id = (index) => index.toString(16).padStart(32, '0');

export function largeCluster(count, partitions, zones) {
  const nodes = Array.from({ length: count }, (_, index) => ({
    id: id(index + 1), name: `node-${index + 1}`, zone: `zone-${'abcdefgh'[index % zones]}`, weight: 100, status: 'member',
    addresses: {}, incarnation: 1, epoch: 1, holds: `v1:${partitions}:${'f'.repeat(partitions / 4)}`,
  }));
  const owners = Array.from({ length: partitions }, (_, partition) => (partition * 7) % count);
  const silent = new Set([5, 77, 210]);
  const defaults = { n: 3, r: 2, w: 2 };
  const reports = (report) => nodes.map((node, index) => (silent.has(index) ? { node: node.id, name: node.name, reachable: false } : { node: node.id, name: node.name, reachable: true, report: report(node, index) }));
  const moving = (index) => (index % 10 ? [] : [{ partition: index, state: 'copying', peer: id(2), records: 40, bytes: 4000, records_total: 100, eta_ms: 9000, restarts: 0 }]);
  return {
    '/v1/ring': { format: 1, cluster: id(9), version: '41-00000000000000aa', partitions, spacing: 3, nodes, owners, defaults, buckets: {} },
    '/v1/cluster': {
      cluster: id(9), version: '41-00000000000000aa', partitions, spacing: 3, defaults, staged: 0, partitions_pending: 0,
      members: nodes.map((node) => ({ ...node, node: node.id, owns: 3, replicas: 10, holds: 10, pending: 0 })),
    },
    '/v1/cluster/health': { status: 'degraded', nodes: count, nodes_reachable: count - 3, partitions, partitions_all_ok: partitions - 30, partitions_quorum_ok: partitions, pending_moves: 30, hints: 1234 },
    '/v1/hints': { hints: 1234, bytes: 1e6, unreachable: 3, nodes: reports(() => ({ hints: 4, bytes: 3000, targets: [{ node: id(6), hints: 4, bytes: 3000 }] })) },
    '/v1/transfers': {
      totals: { copying: 30, held: 3000 }, incoming: 30, outgoing: 0, records: 1200, records_total: 3000, bytes: 120000, eta_ms: 9000, paused: 0, silent: 3,
      nodes: reports((node, index) => ({ node: node.id, paused: false, totals: { held: 10, ...(index % 10 ? {} : { copying: 1 }) }, records: 40, bytes: 4000, partitions: moving(index) })),
    },
    '/v1/cluster/peers': {
      window_s: 30, silent: silent.size,
      nodes: nodes.map((node, index) => ({ node: node.id, name: node.name, observers: 12, slow_for: index === 41 ? 12 : 0, away_for: silent.has(index) ? 12 : 0, messages: 12_000, p50_us: 900 + index, p99_us: index === 41 ? 480_000 : 4000 + index, slow: index === 41, ...(silent.has(index) ? {} : { store: 'healthy' }) })),
    },
    '/v1/cluster/load': {
      silent: 3,
      windows: [60, 1800].map((window_s) => ({
        window_s, operations: 900_000, judged: true, imbalance_milli: 20,
        nodes: nodes.filter((_, index) => !silent.has(index)).map((node, index) => ({ node: node.id, name: node.name, weight: 100, window_s, seconds: window_s, coordinated: 1000, replica: 2000 + index, deviation_milli: (index % 50) * 4 - 40, out_of_balance: index % 50 > 47 })),
      })),
    },
  };
}
