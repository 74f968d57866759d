"""A plan in words, as a page, and as data: what is computed how, what was weighed, and why. It decides nothing.

All three are functions of the plan alone: no date, no colour, nothing of the machine they run on, so that they may
stand in an artifact and be compared.
"""

from ropegen.explain.facts import data as data
from ropegen.explain.page import html as html
from ropegen.explain.words import duration as duration
from ropegen.explain.words import quantity as quantity
from ropegen.explain.words import text as text
