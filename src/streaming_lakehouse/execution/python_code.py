"""The Python code that a function reaches in its own package, as text without comments, docstrings and layout.

A plan names a Python function that Spark calls for each row, but does not have what the function does.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

_PACKAGE = __name__.partition(".")[0]


def reachable_source(function: Callable[..., Any]) -> str:
    """The definitions that `function` uses, itself included, each after its module and name, in alphabetical order.

    Names are followed to modules of the function's own package; in this package, to those of its domains only.
    """
    arguments = []
    while isinstance(function, partial):
        arguments.append(repr((function.args, sorted(function.keywords.items()))))
        function = function.func
    function = inspect.unwrap(function)
    reader = _Reader(function.__module__.partition(".")[0])
    reader.follow(function.__module__, function.__qualname__.partition(".")[0])
    definitions = (f"# {module} {name}\n{text}" for (module, name), text in sorted(reader.found.items()))
    return "\n".join([*arguments, *definitions])


@dataclass
class _Reader:
    """Collects the definitions that a name reaches within `package`."""

    package: str
    found: dict[tuple[str, str], str] = field(default_factory=dict)
    modules: dict[str, _Module] = field(default_factory=dict)

    def follow(self, module: str, name: str) -> None:
        if (module, name) in self.found or not self._is_own(module):
            return
        source = self.modules.setdefault(module, _Module(module))
        if name in source.definitions:
            self.found[module, name] = ast.unparse(source.definitions[name])
            for used in _names(source.definitions[name]):
                self.follow(*source.resolve(used))
        elif name in source.imports:
            self.follow(*source.imports[name])

    def _is_own(self, module: str) -> bool:
        in_package = module.partition(".")[0] == self.package
        return in_package and (self.package != _PACKAGE or module.startswith(f"{_PACKAGE}.domains."))


@dataclass
class _Module:
    name: str

    @cached_property
    def tree(self) -> ast.Module:
        """The code without docstrings; empty where there is no source."""
        loaded = sys.modules.get(self.name)
        try:
            tree = ast.parse(inspect.getsource(loaded)) if loaded else ast.Module([], [])
        except (OSError, TypeError):
            return ast.Module([], [])
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                body[:] = body[1:] or [ast.Pass()]
        return tree

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
                found.update({each.id: node for each in names})
        return found

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """What each imported name is: a module and a name in it, which is empty for the module itself."""
        found: dict[str, tuple[str, str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                source = ".".join(filter(None, [self._ancestor(node.level), node.module]))
                found.update({each.asname or each.name: (source, each.name) for each in node.names})
            elif isinstance(node, ast.Import):
                for each in node.names:  # `import shop.rules` gives the name shop
                    name = each.asname or each.name.partition(".")[0]
                    found[name] = (each.name if each.asname else name, "")
        return found

    def resolve(self, names: tuple[str, ...]) -> tuple[str, str]:
        """The module and the name in it that `names[0].names[1]…` reads here."""
        imported = ".".join(filter(None, self.imports.get(names[0], ()))).split(".")
        dotted = [*imported, *names[1:]]
        for length in range(len(dotted) - 1, 0, -1):
            if (module := ".".join(dotted[:length])) in sys.modules:
                return module, dotted[length]
        return self.name, names[0]

    def _ancestor(self, level: int) -> str:
        """The package that `level` dots stand for; nothing in an absolute import."""
        return ".".join(self.name.split(".")[:-level]) if level else ""


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _names(definition: ast.AST) -> Iterator[tuple[str, ...]]:
    """Each name that is read, and with each attribute, as `("rules", "limits", "SLOW")` of rules.limits.SLOW."""
    for node in ast.walk(definition):
        attributes: tuple[str, ...] = ()
        owner = node
        while isinstance(owner, ast.Attribute):
            attributes = (owner.attr, *attributes)
            owner = owner.value
        if isinstance(owner, ast.Name):
            yield (owner.id, *attributes)
