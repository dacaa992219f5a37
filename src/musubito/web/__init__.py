"""A page on this machine that shows what was recorded: `musubito ui`.

    app        the routes, and what every page knows
    pages/     one module for each page: asks `musubito.lineage`, and fills a template
    guard      who may ask, and what a browser may do with the answer
    live       events that tell an open page of new calls
    server     the address, the browser, and the end

Pages are written by the server from `templates/`. `static/ui.js` draws graphs and curves, and keeps an open page up to
date. No page changes what was recorded: where something can be done, it shows the command.
"""
