"""Native code for CPU: a typed writer of LLVM IR, its compilation, and the calls that XLA makes into it."""
