"""Reads finished runs and sets our numbers beside the published ones; knows nothing of training and never imports JAX.

    python -m jaxrepro.report runs/yoto_cifar-paper --out=report     # the paper's tables and figures
    from jaxrepro.report.page import write_page                      # report.html of one run

`results.py` is what a run writes, `runs.py` reads run folders, `reference.py` the published numbers, `merge.py` joins
runs and `comparison.py` sets both side by side; `grids.py` lays tables out, `page.py` and `html.py` write pages,
`curves.py` draws, `style.py` is the look of every figure, `papers/` holds what only one paper needs.
"""
