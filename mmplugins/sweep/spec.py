"""What a sweep is asked to do: a YAML file, checked, as dataclasses.

    out: work_dirs/sweep                    # folder of all it makes
    pipelines:
      mask_rcnn: configs/mask_rcnn/mask-rcnn_vit-mini16-{encoding}_sfpn_1xb8-6e_synthetic-160x224.py
    encodings: [nope, ape, sape2]           # the first is the report's baseline
    seeds: [0, 1, 2]
    cfg_options: {train_cfg.max_epochs: 3}  # changes of every config
    train: [--amp]                          # options of tools/train.py
    test: true                              # without options; a tool not named does not run
    equivariance: [--subset, 100]
    resolution: [--sizes, "0.5:2.0"]
    compare: true                           # all encodings with one another
    report: true

Encodings may also be a mapping from names to variants of configs:

    encodings:
      nope:                                 # the config of that name
      sape2-fp16: {config: sape2, cfg_options: {optim_wrapper.type: AmpOptimWrapper}}
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmplugins.engine.inputs import InputError, check_file

# Each kind of job, and the options that the sweep itself gives to its tool.
OURS = {
    "train": {"--work-dir", "--resume", "--launcher", "--cfg-options"},
    "test": {"--work-dir", "--launcher", "--cfg-options"},
    "equivariance": {"--out", "--name", "--against", "--launcher", "--cfg-options"},
    "resolution": {"--out", "--name", "--against", "--launcher", "--cfg-options"},
    "compare": {"--out"},
    "report": {"--out", "--baseline"},
}
KINDS = tuple(OURS)
PLACE = "{encoding}"
NAME = re.compile(r"\w[\w.+-]*")  # names become folders


@dataclass(frozen=True)
class Encoding:
    """A name, and what of a pipeline makes it: what stands for {encoding}, changes of the config.

    Changes are as on the command line: KEY=VALUE.
    """

    name: str
    config: str
    cfg_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A sweep; `options` has a kind of jobs if and only if they shall run."""

    out: Path
    pipelines: Mapping[str, str]
    encodings: tuple[Encoding, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, tuple[str, ...]]
    cfg_options: tuple[str, ...] = ()

    def config(self, pipeline: str, encoding: Encoding) -> str:
        """Path of the config."""
        return str(Path(self.pipelines[pipeline]).expanduser()).replace(PLACE, encoding.config)


def read_spec(path: str) -> Spec:
    """The sweep that a YAML file describes.

    Raises:
        InputError: naming the key, what is wrong with it and what would be right.
    """
    check_file(path, "spec")
    try:
        content = yaml.load(Path(path).read_text(), _Loader)  # a kind of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    try:
        spec = _spec(content)
        for pipeline in spec.pipelines:
            _check_configs(spec, pipeline)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return spec


def _check_results(options: Mapping[str, Any], encodings: int) -> None:
    for kind in ("compare", "report"):
        if kind in options and not {"equivariance", "resolution"} & options.keys():
            raise InputError(f"{kind}: of what? name equivariance or resolution too")
    if "compare" in options and encodings < 2:
        raise InputError("compare: one encoding alone has nothing to be compared with")


class _Loader(yaml.SafeLoader):
    """PyYAML's, which would take the last of two keys alike and forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"`{twice[0]}` stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _spec(content: Any) -> Spec:
    required = ("out", "pipelines", "encodings", "seeds")
    _check_keys("the file", content, required, optional=("cfg_options", *KINDS))
    out, pipelines = content["out"], content["pipelines"]
    if not isinstance(out, str) or not out:
        raise InputError(f"out: names a folder, not `{out}`")
    if not isinstance(pipelines, Mapping) or not pipelines:
        raise InputError("pipelines: maps names to configs whose paths hold {encoding}")
    for name, config in pipelines.items():
        _check_name("pipelines", name)
        if not isinstance(config, str) or PLACE not in config:
            raise InputError(f"pipelines.{name}: `{config}` lacks {PLACE}, which encodings replace")
    if content.get("train") is False:
        raise InputError("train: the rest needs what it makes; --only leaves it out of one call")
    options = {
        kind: _options(kind, content.get(kind) or True)
        for kind in KINDS
        if content.get(kind) not in (None, False) or kind == "train"
    }
    encodings = _encodings(content["encodings"])
    _check_results(options, len(encodings))
    return Spec(
        Path(out).expanduser(),
        pipelines,
        encodings,
        _seeds(content["seeds"]),
        options,
        _cfg_options("cfg_options", content.get("cfg_options")),
    )


def _encodings(content: Any) -> tuple[Encoding, ...]:
    if isinstance(content, list):
        for name in content:
            _check_name("encodings", name)
        if len({*content}) < len(content):
            raise InputError(f"encodings: one name twice in {', '.join(content)}")
        content = dict.fromkeys(content)
    if not isinstance(content, Mapping) or not content:
        raise InputError("encodings: a list of names, or a mapping from names to {config: NAME}")
    result = []
    for name, variant in content.items():
        _check_name("encodings", name)
        place = f"encodings.{name}"
        variant = {} if variant is None else variant
        _check_keys(place, variant, optional=("config", "cfg_options"))
        config = variant.get("config", name)
        _check_name(f"{place}.config", config)
        changes = _cfg_options(f"{place}.cfg_options", variant.get("cfg_options"))
        result.append(Encoding(name, config, changes))
    return tuple(result)


def _seeds(content: Any) -> tuple[int, ...]:
    # YAML reads `yes` as a truth, which Python counts among the whole numbers.
    if (
        not isinstance(content, list)
        or not content
        or any(type(seed) is not int or seed < 0 for seed in content)
        or len({*content}) < len(content)
    ):
        raise InputError(f"seeds: a list of different whole numbers from 0 on, not `{content}`")
    return tuple(content)


def _options(kind: str, content: Any) -> tuple[str, ...]:
    if content is True:
        return ()
    if not isinstance(content, list) or any(type(o) not in (str, int, float) for o in content):
        raise InputError(f"{kind}: true, or a list of options of tools/{kind}.py, not `{content}`")
    options = tuple(map(str, content))
    if ours := [option for option in options if option.partition("=")[0] in OURS[kind]]:
        raise InputError(f"{kind}: {ours[0]} is what the sweep itself gives to the tool")
    return options


def _cfg_options(place: str, content: Any) -> tuple[str, ...]:
    """A mapping, nested or with dotted keys, as KEY=VALUE."""
    if content is None:
        return ()
    if not isinstance(content, Mapping):
        raise InputError(f"{place}: maps keys of a config to values, not `{content}`")
    result = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            result += (f"{key}.{rest}" for rest in _cfg_options(f"{place}.{key}", value))
        else:
            result.append(f"{key}={_text(f'{place}.{key}', value)}")
    return tuple(result)


def _text(place: str, value: Any) -> str:
    """As mmengine's command line reads it back."""
    if isinstance(value, list):
        return f"[{','.join(_text(place, item) for item in value)}]"
    if not isinstance(value, str | int | float | None):
        raise InputError(f"{place}: numbers, words and lists of them, not `{value}`")
    return str(value)


def _check_keys(
    place: str, content: Any, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> None:
    if not isinstance(content, Mapping):
        raise InputError(f"{place}: a mapping, not `{content}`")
    known = [*required, *optional]
    if unknown := [str(key) for key in content if key not in known]:
        raise InputError(f"{place}: unknown key {unknown[0]}; it may have {', '.join(known)}")
    if missing := [key for key in required if key not in content]:
        raise InputError(f"{place}: {missing[0]} is missing")


def _check_name(place: str, name: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(f"{place}: `{name}` is no name of letters, digits and any of _ . + -")


def _check_configs(spec: Spec, pipeline: str) -> None:
    parts = str(Path(spec.pipelines[pipeline]).expanduser()).split(PLACE)
    files = glob.glob("*".join(map(glob.escape, parts)))
    matches = [re.fullmatch("(.+)".join(map(re.escape, parts)), file) for file in files]
    known = sorted(match[1] for match in matches if match)
    for encoding in spec.encodings:
        if encoding.config not in known:
            raise InputError(
                f"encodings.{encoding.name}: no config `{spec.config(pipeline, encoding)}`; "
                f"pipelines.{pipeline} has {', '.join(known) or 'none at all'}"
            )
