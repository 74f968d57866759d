"""Functions of other libraries under their own signatures, computed by ropegen: change the import, and nothing else."""

from ropegen.compat import jax_nn

__all__ = ["jax_nn"]
