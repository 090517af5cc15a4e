"""The report page: a sweep with all that its records say, as one HTML file that needs no network and no server.

`data` gathers, `items` writes what single items were answered, `write` makes the page. Numbers are those of scores.csv
and of the tables, by the same functions. Here too is what the page is made of: page.html, page.css and the scripts.
"""
