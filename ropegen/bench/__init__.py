"""Side by side: ropegen's compiled plan, plain JAX and torch on the same inputs, in one process and one run.

    contenders, left_out = bench.contenders(rg.plan(graph, "cpu").compile(), against=("jax", "torch"))
    race = bench.race(contenders, tolerance=bench.tolerance(graph), seconds=10)

Timing starts only once the results of all contenders agree. torch is imported only if a call asks for it.
"""

from ropegen.bench.attention import LeftOut as LeftOut
from ropegen.bench.contenders import AGAINST as AGAINST
from ropegen.bench.contenders import contenders as contenders
from ropegen.bench.contenders import tolerance as tolerance
from ropegen.bench.measure import Contender as Contender
from ropegen.bench.measure import Race as Race
from ropegen.bench.measure import Timing as Timing
from ropegen.bench.measure import compare as compare
from ropegen.bench.measure import race as race
from ropegen.bench.report import as_data as as_data
from ropegen.bench.report import machine as machine
from ropegen.bench.report import notes as notes
from ropegen.bench.report import picture as picture
from ropegen.bench.report import pyplot as pyplot
from ropegen.bench.report import rows as rows
from ropegen.quantities import duration as duration
