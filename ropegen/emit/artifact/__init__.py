"""Artifacts: a directory with everything that a program needs to run a graph, without the code of the model.

    manifest.json      what the artifact is: graph, plans, platforms, inputs, outputs, a hash of every file
    graph.mlir         the graph, in ropegen's own text form
    plan.txt           the plan of each target, with every reason
    module.jaxexport   the program for every platform, as jax.export wrote it
    module.mlirbc      the program as portable StableHLO, for consumers without JAX
    prepare.*          the same two files for the stage that runs once over the parameters, if there is one
    gradient.*         the same two files for the gradient of a call, if asked for
    semantic.mlir      the graph as StableHLO composites, for compilers that know the ops
    report.txt         what is in the modules, in figures; with executables, the schedule of each kernel
    *.executable       device executables, compiled ahead of time, one for each chip and stage, if asked for
    *.o                native kernels for CPU, compiled ahead of time, and the programs that call them, if asked for
    *.ll, *.s          the code of native kernels for readers, if asked for

    manifest.sig       who signed the manifest, if anybody did

The same graph and targets give the same bytes. `export` writes a hidden directory and exchanges it for the one that is
there, so that a half-written artifact never appears. `load` trusts no file. What runs is the StableHLO, and no template
is imported, unless the plan for CPU has native kernels: see `ropegen.emit.artifact.native`.
"""

from ropegen.emit.artifact.check import Check as Check
from ropegen.emit.artifact.check import CheckedOutput as CheckedOutput
from ropegen.emit.artifact.drawn import drawn_inputs as drawn_inputs
from ropegen.emit.artifact.executables import is_ahead_of_time as is_ahead_of_time
from ropegen.emit.artifact.manifest import MANIFEST as MANIFEST
from ropegen.emit.artifact.read import Artifact as Artifact
from ropegen.emit.artifact.read import Keys as Keys
from ropegen.emit.artifact.read import load as load
from ropegen.emit.artifact.read import sign as sign
from ropegen.emit.artifact.write import export as export
from ropegen.emit.artifact.write import weighed as weighed
