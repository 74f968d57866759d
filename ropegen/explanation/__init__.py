"""A plan as text, as a page, and as data: what is computed how, which options there were, and why.

It decides nothing. All three depend on the plan alone: they contain no date, no colour, and nothing of the machine that
they were made on. An artifact can therefore contain them, and they can be compared.
"""

from ropegen.explanation.facts import angle_warnings as angle_warnings
from ropegen.explanation.facts import data as data
from ropegen.explanation.page import html as html
from ropegen.explanation.words import duration as duration
from ropegen.explanation.words import quantity as quantity
from ropegen.explanation.words import text as text
