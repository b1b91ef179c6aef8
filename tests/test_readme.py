"""What the README shows is what works: its example runs, and its commands are valid."""

import json
import re
import shlex

import flax.linen as nn
import jax
import jax.numpy as jnp
import launching
import pytest

import jaxrepro.experiments
import jaxrepro.layers
from jaxrepro import registry
from jaxrepro.report import papers

README = (launching.ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (?:srun [^\n]*?)?python (launch\.py [^\n#]*)", README, re.MULTILINE)
COMMANDS += re.findall(r"`python (launch\.py [^`]*)`", README)


def block(first_line):
    """Returns the code block that begins with a comment."""
    return re.search(rf"```python\n# {re.escape(first_line)}[^\n]*\n(.*?)```", README, re.DOTALL)[1]


def test_the_worked_example_trains_and_reports_without_a_change_elsewhere(tmp_path, monkeypatch):
    """A paper is its files and one line in the registry; its module of the report is found by its name."""
    (tmp_path / "digits.py").write_text(block("jaxrepro/experiments/digits.py"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "digits.py").write_text(block("configs/digits.py"))
    (tmp_path / "papers").mkdir()
    caption = "Ten digits, mistaken for each other."
    (tmp_path / "papers" / "digits.py").write_text(
        f"from jaxrepro.report.papers import Paper\n\nPAPER = Paper(captions={{'confusion': {caption!r}}})\n"
    )
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path / "papers")])
    name, module = re.search(r'"(\w+)": "([\w.]+)"', block("jaxrepro/registry.py")).groups()
    monkeypatch.setitem(registry.EXPERIMENTS, name, module)
    monkeypatch.setattr(jaxrepro.experiments, "__path__", [*jaxrepro.experiments.__path__, str(tmp_path)])
    workdir = tmp_path / "run"
    done = launching.call_main(f"--config={tmp_path / 'config' / 'digits.py'}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    found = launching.results(workdir)
    assert found["metrics"]["test/accuracy"] > 0.9
    assert found["records"][0]["row"] == "perceptron"
    assert (workdir / "figures" / "confusion.png").stat().st_size > 10_000
    rates = [json.loads(line)["learning_rate"] for line in (workdir / "metrics.jsonl").open() if '"train"' in line]
    assert rates[1:] == sorted(rates[1:], reverse=True), "a cosine falls after its warm-up"
    assert rates[-1] < 0.01 * max(rates)
    page = (workdir / "report.html").read_text()
    assert caption in page
    assert "perceptron" in page


def test_the_network_of_scale_equivariant_layers_works_as_it_stands():
    names = {"nn": nn} | {name: getattr(jaxrepro.layers, name) for name in jaxrepro.layers.__all__}
    code = block("scale_net.py: ")
    assert len(code.strip().splitlines()) == 9
    exec(code, names)
    network, images = names["ScaleNet"](), jnp.ones((2, 16, 16, 3))
    variables = jax.jit(lambda: network.init(jax.random.key(0), images, True))()
    logits, _ = jax.jit(lambda: network.apply(variables, images, True, mutable=["batch_stats"]))()
    assert logits.shape == (2, 10)
    assert variables["params"]["SESConv_0"]["kernel"].shape == (9, 3, 16)


@pytest.mark.usefixtures("plain_convolutions")  # --mode=print shows shapes
@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_command_of_the_readme_is_valid(command):
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3"))[1:]
    words = [
        w for w in words if not w.startswith(("--mode", "--coordinator_address", "--num_processes", "--process_id"))
    ]
    done = launching.call_main(*words, "--mode=print")
    assert done.returncode == 0, done.stderr


def test_the_readme_has_commands():
    assert len(set(COMMANDS)) > 10
