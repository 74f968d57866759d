"""Plans as StableHLO modules, and StableHLO modules whose composites become planned kernels."""
