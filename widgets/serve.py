"""The serve panel: from a model to an address that answers; its traffic, how it does, and a playground to ask it."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

import traitlets

from workbench import runs
from workbench.assessment import standing
from workbench.drawing import ago, when
from workbench.endpoint import Endpoint
from workbench.errors import NotFoundError, WorkbenchError
from workbench.journal import ENDED
from workbench.model import Model
from workbench.registry import Registry
from workbench.runs import Run
from workbench.serve import visits
from workbench.serve.deployments import Deployment, joined, previous, scaled, shifted, standing_deployment, without
from workbench.serve.feedback import Feedback
from workbench.serve.spec import ServeSpec

from . import still
from .panel import Panel, slow
from .playground import Playground
from .talk import Talk

PACE = 0.9
"""Least seconds between two looks at the endpoint, however many pages look on."""
VERDICTS = 20.0
"""Seconds for which a verdict is taken as known."""
FOLLOWED = 5.0
"""Seconds for which it is taken as known what an endpoint was before."""
SAID = {"up": ("●", "answering", "done"), "starting": ("◌", "starting", "starting"), "lost": ("?", "not answering", "lost"),
        "down": ("■", "stopped", "stopped")}
"""State of an endpoint -> sign, word, and the state of the panel that it looks like."""


class ServePanel(Playground, Panel):
    """Puts models behind an address that answers, with their traffic, limits and replicas."""

    WORD: ClassVar[str] = "serve"
    VERB: ClassVar[str] = "Deploy"
    ABOUT: ClassVar[str] = ("Puts a model behind an address on this machine that speaks OpenAI's protocol. Ask it in the playground, "
                            "see which record taught an answer, shift traffic between versions, roll back.")
    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "python-docs", "models": [{"model": "python-docs-lm"}]}
    MAIN: ClassVar[tuple[str, ...]] = ("models", "name", "replicas", "port", "host")
    MODULES: ClassVar[tuple[str, ...]] = ("playground", "serve")

    endpoint = traitlets.Dict().tag(sync=True)
    """how the endpoint stands: ``name``, ``state``, ``address`` …; empty where none was ever deployed"""

    def __init__(self, *arguments: Any, **known: Any):
        self._looking = threading.Lock()
        self._looked, self._numbers = 0.0, {}
        self._followed: tuple[Any, dict[str, Any]] = (None, {})
        self._verdicts: dict[str, tuple[float, dict[str, Any]]] = {}
        self.talk = Talk(self._told)
        super().__init__(*arguments, **known)
        self._look()

    def close(self) -> None:
        """End the panel; the endpoint goes on, what is being answered to it does not."""
        if hasattr(self, "talk"):
            self.talk.stop()
        super().close()

    def _told(self, message: dict[str, Any]) -> None:
        self.send(message)

    # What a notebook calls -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The endpoint's name: of the run that is shown, else of the spec."""
        if self.watch is not None:
            return str(self.watch.entry.spec.get("name") or self.watch.entry.name)
        return self.editor.spec.name if self.editor.spec is not None else ""

    # The panel -----------------------------------------------------------------------------------------------------------------

    def made(self, run: Run) -> dict[str, Any]:
        self._look(fresh=True)
        return {"endpoint": run.result["endpoint"]}

    def next_step(self, run: Run) -> dict[str, Any] | None:
        return {"label": "Watch it", "word": "monitor", "spec": {"name": run.result["endpoint"]}}

    def needs(self) -> dict[str, Any] | None:
        found = self.endpoint
        if self.watch is None or self.watch.entry.state not in ENDED:
            return None
        if found.get("state") == "lost":
            return {"level": "error", "text": f"{found['name']} is not answering since {found['since']} ({ago(found['sign'])}): "
                    "its supervisor was ended from outside.", "action": None if self.readonly else {"label": "Start again", "ask": "start"}}
        if found.get("state") == "down":
            return {"level": "info", "text": f"{found['name']} was stopped {ago(found['sign'])}.",
                    "action": None if self.readonly else {"label": "Start again", "ask": "start"}}
        if found.get("problem"):
            return {"level": "warning", "text": found["problem"], "action": {"label": "See the log", "tab": "live"}}
        return None

    def _last_of_this(self) -> Run | None:
        """A run of this very spec that is at work, else the one that the endpoint of its name stands by."""
        found = super()._last_of_this()
        if found is not None and found.entry.state not in ENDED:
            return found
        try:
            endpoint = Endpoint.open(self.editor.spec.name, self.workspace) if self.editor.spec is not None else None
            if endpoint is not None and endpoint.state in ("up", "starting", "lost") and (run := endpoint.document.get("run")):
                return runs.attach(run, self.workspace)
        except WorkbenchError:
            pass
        return found

    def _state(self) -> None:
        with self._lock, self.hold_sync():
            super()._state()
            found = self.endpoint
            if self.status.get("state") == "done" and found.get("run") == self.status.get("run") and found.get("state") in SAID:
                sign, word, state = SAID[found["state"]]
                words = found["words"] if found["state"] in ("up", "starting") else f"since {found['since']}"
                self.status = {**self.status, "sign": sign, "said": word, "state": state, "words": words}
            elif self.status.get("state") == "done" and found:
                self.status = {**self.status, "said": "done", "words": "another run has changed the endpoint since"}
            pending = []
            if self._ran is not None and self.editor.spec is not None:
                pending = [r for r in still.differences(self._ran, self.editor.spec.to_dict()) if not r["path"].startswith("version")]
            self.status = {**self.status, "pending": pending[:20]}

    # How the endpoint stands ---------------------------------------------------------------------------------------------------

    @slow
    def ask_status(self) -> dict[str, Any]:
        """Numbers of the last minutes; asked by a page about once a second while somebody looks."""
        return self._look()

    def _look(self, fresh: bool = False) -> dict[str, Any]:
        with self._looking:
            if not fresh and time.monotonic() - self._looked < PACE:
                return self._numbers
            found, numbers = self._standing(), {}
            if found.get("state") in ("up", "starting"):
                try:
                    numbers = Endpoint(self.workspace, found["name"]).status(patience=2)
                    labels = {v["reference"]: v for v in found["versions"]}
                    for version in numbers["versions"]:
                        version["label"] = labels.get(version["reference"], version).get("label", version["reference"])
                except (WorkbenchError, OSError) as error:
                    numbers = {"error": str(error)}
            self._numbers, self._looked = numbers, time.monotonic()
            if found != self.endpoint:
                self.endpoint = found
                self._state()
        return numbers

    def _standing(self) -> dict[str, Any]:
        try:
            endpoint = Endpoint.open(self.name, self.workspace) if self.name else None
            document = endpoint.document if endpoint else {}
            state = endpoint.state if endpoint else ""
        except WorkbenchError:
            return {}
        if not document:
            return {}
        self._follow(document)
        registry, total = Registry(self.workspace), sum(m["weight"] for m in document["models"]) or 1
        versions = []
        for model in document["models"]:
            reference, label = f"{model['name']}@{model['digest'][:12]}", ""
            try:
                version = registry.by_digest("model", model["digest"])
                label, asked = f"{model['name']} v{version.number}", f"{model['name']}@v{version.number}"
            except NotFoundError:
                label, asked = reference, reference
            replicas = [r["state"] for r in document["replicas"] if r["digest"] == model["digest"]]
            versions.append({"reference": reference, "label": label, "asked": asked, "digest": model["digest"],
                             "share": model["weight"] / total, "ready": replicas.count("ready"), "replicas": len(replicas),
                             "verdict": self._verdict(model["digest"])})
        ready, sign = sum(v["ready"] for v in versions), endpoint.last_sign
        problem, gone = (document.get("problem") or {}).get("what"), state in ("lost", "down")
        return {"name": self.name, "state": state, "run": document.get("run"), "address": endpoint.address, "host": document["host"],
                "public": document["host"] not in ("127.0.0.1", "localhost", "::1"), "token_file": str(endpoint.token_file),
                "started": document["started"], "sign": sign if gone else 0, "since": when(sign) if gone else "",
                "note": document.get("note"), "problem": problem, "versions": versions,
                "words": f"{ready} of {sum(v['replicas'] for v in versions)} replicas",
                "replicas": [{k: r[k] for k in ("id", "pid", "model", "state")} for r in document["replicas"]], **self._followed[1]}

    def _follow(self, document: dict[str, Any]) -> None:
        """What changes only with a deployment: what it goes back to, what may be asked; and a run of another page is shown here too."""
        mark = (document.get("run"), int(time.monotonic() / FOLLOWED), self.watch is not None and self.watch.entry.state)
        if self._followed[0] == mark:
            return
        seen = self._followed[0] and self._followed[0][0]
        now, before = standing_deployment(self.workspace, self.name), previous(self.workspace, self.name)
        models = [m["digest"] for m in document["models"]]
        self._followed = (mark, {
            "wanted": now.spec.replicas if now else 1, "limits": now.spec.limits.model_dump(mode="json") if now else {},
            "back": {"words": before.words, "when": when(before.at), "run": before.run} if before else None,
            "suggestions": Endpoint(self.workspace, self.name).suggestions, "chat": any(self._chats(d) for d in models)})
        watch = self.watch
        if mark[0] and watch is not None and watch.entry.state in ENDED and seen == watch.run.id and mark[0] != seen:
            self.attach(mark[0])

    def _chats(self, digest: str) -> bool:
        """True for a model that was taught to answer rather than to go on."""
        try:
            spec = Model(Registry(self.workspace).by_digest("model", digest).path).manifest.get("spec") or {}
        except WorkbenchError:
            return False
        objective = spec.get("objective")
        return (objective.get("kind") if isinstance(objective, dict) else objective) in ("sft", "dpo")

    def _verdict(self, digest: str) -> dict[str, Any]:
        """What the policy says of a version, in few words and in all."""
        at, known = self._verdicts.get(digest, (0.0, {}))
        if not known or time.monotonic() - at > VERDICTS:
            try:
                verdict = standing(self.workspace, digest)
                open_ = [j for j in verdict.judgements if j.status not in ("pass", "waived")]
                assessed = any(j.evidence is not None for j in verdict.judgements)
                words = "may be deployed" if verdict.passed else "must not be deployed in public" if assessed else "not assessed yet"
                known = {"passed": verdict.passed, "assessed": assessed, "why": [j.why for j in open_], "rules": len(verdict.judgements),
                         "words": words}
            except WorkbenchError as error:
                known = {"passed": False, "assessed": False, "why": [str(error)], "rules": 0, "words": "no verdict"}
            self._verdicts[digest] = (time.monotonic(), known)
        return known

    # What a page may change ----------------------------------------------------------------------------------------------------

    @slow
    def act_shift(self, weights: dict[str, float]) -> None:
        """Share the traffic out anew, by version."""
        self._deploy(shifted(self._deployed().spec, {k: float(v) for k, v in weights.items()}))

    @slow
    def act_join(self, model: str, share: float = 10) -> None:
        """Take a version in, with a share of the traffic in per cent."""
        self._deploy(joined(self._deployed().spec, model, float(share)))

    @slow
    def act_leave(self, model: str) -> None:
        """Take a version out."""
        self._deploy(without(self._deployed().spec, model))

    @slow
    def act_scale(self, replicas: int) -> None:
        """Another number of replicas for each version."""
        self._deploy(scaled(self._deployed().spec, int(replicas)))

    @slow
    def act_back(self) -> None:
        """The versions and the traffic that it had before."""
        before = previous(self.workspace, self.name)
        if before is None:
            raise NotFoundError("there is no earlier state to go back to", where=f"endpoint {self.name}")
        self._deploy(before.again)

    @slow
    def act_start(self) -> None:
        """Start again what was stopped or killed, as it was."""
        self._deploy(self._deployed().again)

    @slow
    def act_end(self) -> None:
        """Stop the endpoint: gateway and replicas end."""
        Endpoint.open(self.name, self.workspace).stop()
        self.workspace.audit.append("endpoint-stopped", name=self.name)
        self._look(fresh=True)
        self._state()

    def act_token(self) -> str:
        """The token, for the clipboard."""
        return Endpoint.open(self.name, self.workspace).token

    def _deployed(self) -> Deployment:
        found = standing_deployment(self.workspace, self.name)
        if found is None:
            raise NotFoundError("was never deployed", where=f"endpoint {self.name}", hint="Press Deploy")
        return found

    def _deploy(self, spec: ServeSpec) -> None:
        """Run a changed spec by the engine's ordinary door; what else was edited in the form stays edited."""
        try:
            run = runs.submit(spec, self.workspace)
        except WorkbenchError as error:
            self._note("error", str(error))
            raise
        ran, now = self._ran or {}, self.editor.spec.to_dict() if self.editor.spec is not None else {}
        kept = {k: v for k, v in now.items() if ran and v != ran.get(k) and k not in ("models", "replicas", "name")}
        self.attach(run)
        self.editor.replace({**{k: v for k, v in spec.changed().items() if k not in ("word", "version")}, **kept})
        self.editor.base = {k: v for k, v in self.editor.mapping.items() if k not in kept}
        self._drafts.keep({**self._drafts.base, **kept})  # what was deployed is no draft
        self._look(fresh=True)
        self._refresh()

    # For the playground --------------------------------------------------------------------------------------------------------

    def admit(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a question as this page may ask it: visitors ask seldom and briefly."""
        if self.readonly:
            visits.admit(self.workspace, self.name)
            return {**options, "max_tokens": min(int(options.get("max_tokens") or visits.TOKENS), visits.TOKENS)}
        return options

    @property
    def feedback(self) -> Feedback:
        """What was said of this endpoint's answers."""
        return Feedback(self.workspace, self.name)
