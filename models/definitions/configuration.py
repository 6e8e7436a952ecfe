"""Reads a published config.json into a typed dataclass, whose fields are the keys that determine the graph."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Configuration = TypeVar("Configuration")


class UnsupportedConfiguration(ValueError):
    """A config holds a value that these networks cannot honour.

    component: 'unet', 'vae' or 'text_encoder'; key: the key in its config.json.
    """

    def __init__(self, component: str, key: str, expected: str, received: object) -> None:
        super().__init__(f"{component}/config.json: {key} must be {expected}; received {received!r}")
        self.component = component
        self.key = key


def read_configuration(kind: type[Configuration], component: str, config: Mapping[str, Any]) -> Configuration:
    """Fills `kind` from `config`; absent keys take the field's default, other keys are ignored.

    Raises UnsupportedConfiguration where a value's type is not its default's (int stands for float too).
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = config.get(field.name, field.default)
        default = field.default
        if isinstance(default, tuple):
            item = type(default[0])
            if not isinstance(value, (list, tuple)) or not value or any(type(part) is not item for part in value):
                raise UnsupportedConfiguration(component, field.name, f"a list of {item.__name__}", value)
            value = tuple(value)
        elif isinstance(default, float):
            if type(value) not in (int, float):
                raise UnsupportedConfiguration(component, field.name, "a number", value)
            value = float(value)
        elif type(value) is not type(default):
            name = "null" if default is None else type(default).__name__
            raise UnsupportedConfiguration(component, field.name, name, value)
        values[field.name] = value
    return kind(**values)


def require(component: str, key: str, value: object, supported: tuple[object, ...]) -> None:
    """Raises UnsupportedConfiguration unless `value` is one of `supported`."""
    if value not in supported:
        raise UnsupportedConfiguration(component, key, " or ".join(repr(choice) for choice in supported), value)


def require_class(component: str, config: Mapping[str, Any], key: str, name: str) -> None:
    """Raises UnsupportedConfiguration if `config` names another class than `name`; saying nothing is accepted."""
    require(component, key, config.get(key, name), (name,))


def require_groups(component: str, channels: tuple[int, ...], groups: int) -> None:
    """Raises UnsupportedConfiguration unless group norm can split every width in `channels` into `groups`."""
    if groups < 1 or any(width < 1 or width % groups for width in channels):
        raise UnsupportedConfiguration(component, "norm_num_groups", f"a divisor of the widths {channels}", groups)
