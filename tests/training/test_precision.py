"""bfloat16 by one mechanism: narrow maps, wide parameters, statistics and logits."""

import jax
import jax.numpy as jnp
import pytest

from jaxrepro.config import Precision
from jaxrepro.models.classifiers import CLASSIFIERS, make_classifier
from jaxrepro.models.scale.methods import MODELS, make_model
from jaxrepro.training.precision import apply_in

KEY = jax.random.key(0)


def equations(jaxpr):
    """Yields all equations of a jaxpr in order, those of inner ones in place of the call."""
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(getattr(p, "jaxpr", p), "eqns")]
        for p in inner:
            yield from equations(getattr(p, "jaxpr", p))
        if not inner:
            yield equation


def networks():
    yield from ((name, make_classifier(name, 5), (2, 32, 32, 3)) for name in CLASSIFIERS)
    yield from ((name, make_model(name, channels=(2, 3, 4), hidden=8), (2, 28, 28, 1)) for name in MODELS)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize(("name", "network", "shape"), [pytest.param(*n, id=n[0]) for n in networks()])
def test_the_logits_of_every_classifier_are_computed_in_float32(name, network, shape):
    """Logits of three digits tie: 0.6 % of first places did."""
    images = jnp.zeros(shape)
    variables = jax.eval_shape(lambda: network.init(KEY, images, False))
    narrow = jax.make_jaxpr(lambda v: apply_in(Precision.BFLOAT16, network, v, images, train=False))(variables)
    steps = [e for e in equations(narrow.jaxpr) if e.primitive.name != "convert_element_type"]
    last = [e for e in steps if e.primitive.name in ("dot_general", "conv_general_dilated")][-1]
    assert {v.aval.dtype for v in (*last.invars, *last.outvars)} == {jnp.dtype("float32")}
    assert narrow.out_avals[0].dtype == jnp.float32
    assert any(v.aval.dtype == jnp.bfloat16 for e in steps for v in e.outvars)  # products may be summed in float32


def test_parameters_and_statistics_stay_float32_and_so_do_their_gradients():
    network, images = make_classifier("Conv-4 GAP", 5), jnp.zeros((2, 8, 8, 3))
    variables = jax.eval_shape(lambda: network.init(KEY, images, False))

    def loss(params):
        variables_ = {**variables_of, "params": params}
        logits, changed = apply_in(Precision.BFLOAT16, network, variables_, images, train=True, mutable=["batch_stats"])
        return logits.sum(), changed

    variables_of = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), variables)
    grads, changed = jax.eval_shape(jax.grad(loss, has_aux=True), variables["params"])
    assert {leaf.dtype for leaf in jax.tree.leaves((grads, changed))} == {jnp.dtype("float32")}
