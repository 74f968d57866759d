"""A plan as text, as a page, and as data: what is computed how, which options there were, and why.

It decides nothing. All three depend on the plan alone: they contain no date, no colour, and nothing of the machine that
they were made on. An artifact can therefore contain them, and they can be compared.
"""

from ropegen.explanation.facts import angle_warnings as angle_warnings
from ropegen.explanation.facts import data as data
from ropegen.explanation.lines import summary as summary
from ropegen.explanation.lines import text as text
from ropegen.explanation.page import html as html
from ropegen.quantities import duration as duration
from ropegen.quantities import quantity as quantity
