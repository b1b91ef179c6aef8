"""Reads finished runs and sets our numbers beside the published ones; knows nothing of training and never imports JAX.

    python -m jaxrepro.report runs/yoto_cifar-paper --out=report     # the paper's tables and figures
    from jaxrepro.report.page import write_page                      # report.html of one run

`runs.py` reads run folders, `reference.py` the published numbers, `tables.py` joins the two, `curves.py` and `yoto.py`
compute and draw, `page.py` writes HTML, `figures.py` lists the figures that need several runs.
"""
