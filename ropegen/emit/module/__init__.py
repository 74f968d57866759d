"""Plans as StableHLO modules, and the pass that replaces composites of a StableHLO module by planned kernels."""
