"""Every key of a config is read by something: found in the code's syntax, not in its text."""

import ast
import functools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from spml.config import tables
from spml.config.keys import COMPATIBILITY, KEYS, SECTIONS
from spml.config.settings import keys_of

ROOT = Path(__file__).resolve().parents[1]
# Loading makes names and their number of the first, and train.task of the second.
READ_ON_LOADING = {"dataset.classes", "network.prediction_types"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def keys_read(sources: Mapping[str, str]) -> set[str]:
    """`section.key` of each read like `config.train.seed`, `train.seed` or `options["seed"]`, given `path -> code`.

    A name stands for a section where it is called so, where a section is assigned to it, and where it is a parameter
    of a function that is called with a section; `config` never does.
    """
    modules = {path: _parsed(code) for path, code in sources.items()}
    functions = defaultdict(list)
    for path, module in modules.items():
        for node in ast.walk(module):
            if isinstance(node, FUNCTIONS):
                functions[node.name].append((path, node))
    given = []  # what each variable is given: (path, variable), the path of the value, the value
    for path, module in modules.items():
        for variable, value in [*_assigned(module), *_passed(module, path, functions)]:
            given.append((variable if isinstance(variable, tuple) else (path, variable), path, value))
    names: dict[tuple[str, str], str] = {}  # (path, variable) -> section
    before = -1
    while len(names) > before:  # a function hands a section on to another
        before = len(names)
        for variable, path, value in given:
            section = _section(value, path, names)
            if section and variable[1] != "config":
                names[variable] = section
    found = set()
    for path, module in modules.items():
        for base, key in _reads(module):
            section = _section(base, path, names)
            if section or _last_name(base) == "config":
                found.add(f"{section}.{key}" if section else key)
    return found


@functools.cache
def keys_that_are_read() -> set[str]:
    """Those that the package reads."""
    return keys_read(sources())


@functools.cache
def _parsed(code: str) -> ast.Module:
    return ast.parse(code)


def _section(node: ast.expr, path: str, names: Mapping[tuple[str, str], str]) -> str | None:
    name = _last_name(node)
    return name if name in SECTIONS else names.get((path, name or ""))


def _last_name(node: ast.expr) -> str | None:
    """`c` of `c`, `a.b.c` and `a["c"]`."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _assigned(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Variable and value of `a = value`, `a, b = one, two` and `self.a = value`."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for one, value in pairs:
                name = _last_name(one)
                if name:
                    yield name, value


def _passed(module: ast.Module, path: str, functions: Mapping) -> Iterator[tuple[tuple[str, str], ast.expr]]:
    """(path, parameter) and argument of each call of a function that is defined in one of the modules."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        for where, function in functions.get(_last_name(node.func) or "", ()):
            parameters = [parameter.arg for parameter in function.args.args]
            if parameters[:1] in (["self"], ["cls"]):
                parameters = parameters[1:]
            for parameter, argument in zip(parameters, node.args, strict=False):
                yield (where, parameter), argument
            for keyword in node.keywords:
                yield (where, keyword.arg or ""), keyword.value


def _reads(module: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Object and name of reads: `object.name`, `object["name"]`, `object.get("name")`, `getattr(object, "name")`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.value, node.attr
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                yield node.value, node.slice.value
        elif isinstance(node, ast.Call) and _last_name(node.func) == "getattr" and len(node.args) > 1:
            if isinstance(node.args[1], ast.Constant):
                yield node.args[0], str(node.args[1].value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.func.value, str(node.args[0].value)


def sources() -> dict[str, str]:
    """The package without its config, which reads every key to check it."""
    paths = [path for path in (ROOT / "spml").rglob("*.py") if "config" not in path.relative_to(ROOT).parts]
    return {str(path): path.read_text(encoding="utf-8") for path in paths}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = config.train.seed", {"train", "train.seed"}),
        ("x = self.config.train.seed", {"train", "train.seed"}),
        ("def f(train): return train.seed", {"train.seed"}),
        ("recipe, other = config.train, 5\nprint(recipe.seed)", {"train", "train.seed"}),
        ("self.options = config.test\nprint(self.options['flip'])", {"test", "test.flip"}),
        ("def f(a, data): return data.tags\nf(1, config.dataset)", {"dataset", "dataset.tags"}),
        ("def f(data): return g(data)\ndef g(d): return d.tags\nf(config.dataset)", {"dataset", "dataset.tags"}),
        ("def f(*, data): return data.tags\nf(data=config.dataset)", {"dataset", "dataset.tags"}),
        ("x = getattr(config.train, 'seed')", {"train", "train.seed"}),
        ("x = config.train.get('seed', 0)", {"train", "train.get", "train.seed"}),
        ("x = config.num_threads", {"num_threads"}),
        ("config.train.seed = 5", {"train"}),  # written, not read
        ("del config.train.seed", {"train"}),
        ("print('config.train.seed')  # config.train.seed", set()),
        ("x = optimizer.momentum", set()),  # of something else
        ("x = {'seed': 1}['seed']", set()),
    ],
)
def test_what_counts_as_read(code, found):
    assert keys_read({"x.py": code}) == found


def test_every_key_is_read_by_something():
    unread = set(KEYS) - set(COMPATIBILITY) - READ_ON_LOADING - keys_that_are_read()
    assert not unread, f"keys that nothing reads: {sorted(unread)}"
    loading = ast.parse((ROOT / "spml/config/load.py").read_text(encoding="utf-8"))
    assert {key for _, key in _reads(loading)} >= READ_ON_LOADING


def test_no_compatibility_key_is_read():
    assert not set(COMPATIBILITY) & keys_that_are_read()


@pytest.mark.parametrize("key", ["train.seed", "test.neighbours", "network.pixel_stds", "num_threads"])
def test_a_key_whose_reader_goes_would_be_found(key):
    leaf = key.split(".")[-1]
    code = {path: re.sub(rf"\.{leaf}\b", f"['no {leaf}']", text) for path, text in sources().items()}
    assert key in keys_that_are_read() and key not in keys_read(code)


@pytest.mark.parametrize("name", tables.losses())
def test_every_setting_of_a_loss_is_read_where_the_loss_is(name):
    loss = tables.losses()[name]
    file = Path(sys.modules[loss.function.__module__].__file__ or "")
    read = {key for _, key in _reads(ast.parse(file.read_text(encoding="utf-8")))}
    unread = set(keys_of(loss.settings)) - {"weight"} - read  # the weight is read where losses are summed
    assert not unread, f"settings of {name} that {file.name} does not read: {sorted(unread)}"


def test_the_config_package_needs_no_torch():
    code = "import sys, spml.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
