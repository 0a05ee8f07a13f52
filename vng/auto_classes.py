"""Our models in the Auto classes and pipelines of `transformers`, from `import vng` on.

`import vng` must stay quick, so nothing of `transformers` is imported for it: what is registered with a module of theirs is
registered when that module has been imported, by whomever, or at once if it has been.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, ClassVar

# configuration -> (its model, its processor or "")
_OURS = {
    "referformer.configuration_referformer:ReferFormerConfig": (
        "referformer.modeling_referformer:ReferFormerForVNG",
        "referformer.processing_referformer:ReferFormerProcessor",
    ),
    "clicknet.configuration_clicknet:ClickNetConfig": ("clicknet.modeling_clicknet:ClickNet", ""),
    "dynamite.configuration_dynamite:DynamiteConfig": ("dynamite.modeling_dynamite:DynamiteModel", ""),
    "stcn.configuration_stcn:StcnConfig": ("stcn.modeling_stcn:Stcn", ""),
    "abs.configuration_abs:AbsConfig": ("abs.modeling_abs:Abs", ""),
}


def _class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"vng.models.{module}"), attribute)


def _register_configs(auto: ModuleType) -> None:
    for name in _OURS:
        config = _class(name)
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    for name, (model, _) in _OURS.items():
        auto.AutoModel.register(_class(name), _class(model), exist_ok=True)


def _register_processors(auto: ModuleType) -> None:
    for name, (_, processor) in _OURS.items():
        if processor:
            auto.AutoProcessor.register(_class(name), _class(processor), exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    from transformers import AutoModel

    from vng.grounding.pipeline import TASK, VideoNarrativeGroundingPipeline
    from vng.segmenters.pipeline import TASK as CLICK_TASK
    from vng.segmenters.pipeline import ClickSegmentationPipeline

    for task, kind in ((TASK, VideoNarrativeGroundingPipeline), (CLICK_TASK, ClickSegmentationPipeline)):
        if task not in pipelines.PIPELINE_REGISTRY.supported_tasks:
            pipelines.PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=kind, pt_model=AutoModel, type="multimodal"
            )


# module of transformers -> what to do when it has been imported
_AFTER: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _register_configs,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.models.auto.processing_auto": _register_processors,
    "transformers.pipelines": _register_pipelines,
}


class _Pending:
    """Registrations that wait until no module of `_AFTER` is being imported: our modules need them whole."""

    depth = 0  # modules of `_AFTER` that are being imported
    running = False
    left: ClassVar[list[tuple[Callable[[ModuleType], None], ModuleType]]] = []

    @classmethod
    def run(cls) -> None:
        """Do what can be done now; what needs a module that is still being imported waits for the next import."""
        if cls.depth or cls.running:
            return
        cls.running = True
        try:
            waiting = []
            while cls.left:
                then, module = cls.left.pop(0)
                try:
                    then(module)
                except (ImportError, AttributeError):
                    if cls.complete():
                        raise
                    waiting.append((then, module))
            cls.left += waiting
        finally:
            cls.running = False

    @staticmethod
    def complete() -> bool:
        """Whether transformers is not in the middle of an import of its own."""
        names = ("transformers.modeling_utils", "transformers.configuration_utils", *_AFTER)
        specs = [getattr(sys.modules[name], "__spec__", None) for name in names if name in sys.modules]
        return not any(getattr(spec, "_initializing", False) for spec in specs)


class _After(Loader):
    """A module's own loader, and then what is to be done with the module."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader, self._then = loader, then

    def __getattr__(self, name: str) -> Any:  # such as `get_source`, of the module's own loader
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        _Pending.depth += 1
        try:
            self._loader.exec_module(module)
        finally:
            _Pending.depth -= 1
        _Pending.left.append((self._then, module))
        _Pending.run()


class _Finder(MetaPathFinder):
    """Finds the modules of `_AFTER` as usual, and wraps their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _AFTER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _After(spec.loader, _AFTER[fullname])
        return spec


def register() -> None:
    """Register everything, now or when the modules of `transformers` are imported; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        for name, then in _AFTER.items():
            if name in sys.modules:
                _Pending.left.append((then, sys.modules[name]))
        _Pending.run()
