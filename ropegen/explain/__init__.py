"""A plan as text, as a page, and as data: what is computed how, which options there were, and why.

It decides nothing. All three depend on the plan alone: they contain no date, no colour, and nothing of the machine that
they were made on. An artifact can therefore contain them, and they can be compared.
"""

from ropegen.explain.facts import data as data
from ropegen.explain.page import html as html
from ropegen.explain.words import duration as duration
from ropegen.explain.words import quantity as quantity
from ropegen.explain.words import text as text
