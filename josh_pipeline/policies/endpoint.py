"""An OpenAI-compatible endpoint: retries with jittered back-off, timeouts, token usage."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from josh_pipeline.core.content import content_id, json_object, storable_text, written_call
from josh_pipeline.core.errors import RolloutError, UserError, failing_as
from josh_pipeline.core.messages import Message, Role, ToolCall
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.core.redaction import KEY_VARIABLE, key_advice, key_for, redacted
from josh_pipeline.policies.refusals import RESULTS, Refusals, blamed, parameters, unmet

ATTEMPTS = 6
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
LONGEST_RETRY_AFTER = 300.0
"""A server that asks for more is taken as down once the attempts are used up."""
REQUEST_SECONDS = 120.0
MOST_TOKENS = 2**31 - 1
"""No prompt is longer, and trees add the counts up in 64 bits."""
CLOSED_STATUS = frozenset({401, 403})
MALFORMED_STATUS = frozenset({400, 422})
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class EndpointPolicy:
    """Asks ``{base_url}/chat/completions``.

    Args:
        base_url: e.g. ``http://localhost:8000/v1``.
        model: the model's name at the endpoint.
        in_flight: connections at most.
        first_delay: seconds before the first retry; later ones double, with jitter.
        extra_body: what every request holds besides; it goes before what the pipeline asks for.
        request_seconds: timeout of one attempt.

    Raises:
        UserError: the URL or the key in the environment cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        in_flight: int,
        *,
        extra_body: Mapping[str, Any] | None = None,
        first_delay: float = FIRST_DELAY,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._model = model
        self._first_delay = first_delay
        self._request_seconds = request_seconds
        # Waiting for one of our own connections is no fault of the server: the clock starts after it.
        self._places = asyncio.Semaphore(in_flight)
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(request_seconds, connect=10.0, pool=None),
            limits=httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
            headers=_authorization(base_url),
        )
        self._jitter = random.Random()
        self._extra_body = dict(extra_body or {})
        self._refusals: Refusals = frozenset()

    @property
    def digest(self) -> str:
        """Content hash of the endpoint and the model's name."""
        return content_id("endpoint", self._url, self._model)

    async def check(self) -> None:
        """Ask for the list of models once, before work starts.

        Raises:
            UserError: nothing answers, or it refuses.
        """
        try:
            async with asyncio.timeout(self._request_seconds):
                response = await self._client.get(self._place("models"))
        except (httpx2.HTTPError, TimeoutError) as fault:
            reason = ": ".join(filter(None, (type(fault).__name__, str(fault))))
            raise UserError(f"Nothing answers at {self._url} ({reason}): start the server, or mend the URL.") from None
        if response.status_code in CLOSED_STATUS:
            raise UserError(f"{self._url} asks for a key: {key_advice(self._url)}.")

    async def try_out(self, sampling: Sampling) -> None:
        """Ask for a word or two once, sampled as work that starts now will be: to know what the server refuses.

        Raises:
            UserError: it does not answer whatever is left out.
        """
        try:
            await self.complete(Request((Message("user", "Say OK."),), (), sampling, seed=0))
        except RolloutError as fault:
            raise UserError(f"{self._model!r} at {self._url} does not answer: {fault.message}") from None

    @property
    def unmet(self) -> str:
        """One sentence on what the server has refused of the settings; empty where that is nothing."""
        lost = unmet(self._refusals)
        return lost and f"{self._model!r} at {self._url} does not take {lost}."

    async def complete(self, request: Request) -> Completion:
        """Draw one completion; see ``Policy.complete``.

        What the server refuses is left out from then on, where the request is answered without it: parameters,
        and the results of text formats in the role ``tool``. Those make no API calls, and their results are
        messages of a tool all the same: the chat template that a model was trained through renders them so. A
        server that refuses a result without a call is sent them as the user's.
        """
        # Requests are encoded and answers decoded by libraries that raise more than HTTP errors.
        with failing_as("endpoint", "Asking the endpoint"):
            refusals, first = self._refusals, None
            while True:
                sent = parameters(request.sampling, request.seed, refusals)
                try:
                    completion = await self._ask(self._body(request, sent, "user" if RESULTS in refusals else "tool"))
                except _RefusedError as fault:
                    first = first or fault
                    cause = blamed(fault.answer, {name: sent[name] for name in sent.keys() - self._extra_body.keys()})
                    orphans = not request.tools and any(message.role == "tool" for message in request.messages)
                    if cause is None and orphans and RESULTS not in refusals:
                        cause = RESULTS
                    if cause is None:
                        raise first from None
                    refusals |= {cause}
                else:
                    self._refusals |= refusals
                    return completion

    def _body(self, request: Request, sent: Mapping[str, Any], results_as: Role) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "messages": _chat_messages(request, results_as), **sent}
        if request.tools:
            body["tools"] = list(request.tools)
        return body | self._extra_body

    async def _ask(self, body: dict[str, Any]) -> Completion:
        delay = self._first_delay
        for attempt in range(1, ATTEMPTS + 1):
            wait = min(delay, LONGEST_DELAY) * self._jitter.uniform(0.5, 1.5)
            try:
                response = await self._post(body)
            except (httpx2.TimeoutException, TimeoutError):
                failure = RolloutError("timeout", f"No answer in time after {attempt} attempts.")
            except httpx2.HTTPError as fault:
                failure = RolloutError("endpoint", f"{type(fault).__name__} after {attempt} attempts.")
            else:
                if response.status_code == 200:
                    try:
                        return read_completion(response.content)
                    except RolloutError as fault:
                        failure = fault
                elif response.status_code in RETRIED_STATUS:
                    failure = RolloutError("endpoint", f"HTTP {response.status_code} after {attempt} attempts.")
                    wait = max(wait, min(_retry_after(response), LONGEST_RETRY_AFTER))
                else:
                    raise self._refusal(response)
            if attempt < ATTEMPTS:
                await asyncio.sleep(wait)
                delay *= 2
        raise failure

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        # The client's own timeout is of one read: a server that drips would hold its place for ever.
        async with self._places, asyncio.timeout(self._request_seconds):
            return await self._client.post(self._place("chat/completions"), json=body)

    def _place(self, name: str) -> httpx2.URL:
        """Return the URL of one of the server's places, with the query of its base."""
        base = httpx2.URL(self._url)
        return base.copy_with(path=f"{base.path.rstrip('/')}/{name}")

    def _refusal(self, response: httpx2.Response) -> RolloutError:
        text = storable_text(" ".join(redacted(response.text).split())[:300])
        if "context" in text and ("length" in text or "maximum" in text):
            return RolloutError("context_length", text)
        hint = ""
        if response.status_code in CLOSED_STATUS:
            hint = f" ({key_advice(self._url)})"
        elif response.status_code in (404, 405):
            hint = " (is the URL right, up to its /v1, and the model's name?)"
        message = f"HTTP {response.status_code}: {text}{hint}"
        if response.status_code in MALFORMED_STATUS:
            return _RefusedError(message, response.text)
        return RolloutError("endpoint", message)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@asynccontextmanager
async def open_endpoint(
    base_url: str, model: str, in_flight: int, extra_body: Mapping[str, Any] | None = None
) -> AsyncIterator[EndpointPolicy]:
    """Yield an endpoint that answers, and close it at the end; see ``EndpointPolicy``.

    Raises:
        UserError: it cannot be used, or does not answer.
    """
    endpoint = EndpointPolicy(base_url, model, in_flight, extra_body=extra_body)
    try:
        await endpoint.check()
        yield endpoint
    finally:
        await endpoint.close()


def _authorization(url: str) -> dict[str, str]:
    """Return the header that carries the key, where there is one for the server.

    Raises:
        UserError: a header cannot hold it.
    """
    key = key_for(url)
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE} holds characters that no HTTP header can: set it again to the key alone.")
    return {"Authorization": f"Bearer {key}"}


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks us to wait, which it gives as a number or as a date; 0 if it does not."""
    text = response.headers.get("retry-after", "0")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
        return 0.0


class _RefusedError(RolloutError):
    """The server does not take what was sent; ``answer`` is the body in which it says so."""

    def __init__(self, message: str, answer: str) -> None:
        super().__init__("endpoint", message)
        self.answer = answer


def _chat_messages(request: Request, results_as: Role) -> list[dict[str, Any]]:
    """The chat API's form; calls get ids by position, as results follow their calls in order.

    Args:
        results_as: who says the results that follow no call of the API.
    """
    rendered: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for position, message in enumerate(request.messages):
        item: dict[str, Any] = {"role": message.role, "content": message.content}
        if request.tools and message.tool_calls:
            open_calls = [f"call_{position}_{index}" for index in range(len(message.tool_calls))]
            item["tool_calls"] = list(map(_chat_call, open_calls, message.tool_calls))
        elif message.role == "tool":
            if request.tools and open_calls:
                item["tool_call_id"] = open_calls.pop(0)
            else:
                item["role"] = results_as
        rendered.append(item)
    return rendered


def _chat_call(name: str, call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def read_completion(body: bytes) -> Completion:
    """Read the body of an answer. Odd counts and odd calls are left out: the words are what matters.

    Raises:
        RolloutError: kind ``parse``: it holds no choice with a message, or is no JSON.
    """
    with failing_as("parse", "Reading the answer"):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as fault:
            raise RolloutError("parse", f"The answer is no JSON ({type(fault).__name__}).") from None
        match value:
            case {"choices": [{"message": dict(message)} as choice, *_]}:
                return _completion(message, choice.get("finish_reason"), value.get("usage"))
        raise RolloutError("parse", "The answer holds no choice.")


def _completion(message: dict[str, Any], finish_reason: Any, usage: Any) -> Completion:
    text = message.get("content")
    counts = usage if isinstance(usage, dict) else {}
    details = counts.get("prompt_tokens_details")
    prompt_tokens = _count(counts.get("prompt_tokens"))
    cached_tokens = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Completion(
        text=storable_text(text) if isinstance(text, str) else "",
        tool_calls=_tool_calls(message.get("tool_calls")),
        finish_reason=storable_text(finish_reason) if isinstance(finish_reason, str) else "stop",
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached_tokens, prompt_tokens),
        completion_tokens=_count(counts.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    """Return a number of tokens; 0 for whatever cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 <= value <= MOST_TOKENS else 0


def _tool_calls(value: Any) -> tuple[ToolCall, ...]:
    calls = []
    for item in value if isinstance(value, list) else []:
        match item:
            case {"function": {"name": str(name), "arguments": str(text)}}:
                calls.append(written_call(name, json_object(text), text))
    return tuple(calls)
