"""An OpenAI-compatible endpoint: retries with jittered back-off, timeouts, token usage."""

import asyncio
import json
import os
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from josh_pipeline.dialogue.messages import ToolCall
from josh_pipeline.errors import RolloutError, UserError
from josh_pipeline.ids import content_id
from josh_pipeline.policies.policy import Completion, Request

KEY_VARIABLE = "OPENAI_API_KEY"
ATTEMPTS = 6
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
LONGEST_RETRY_AFTER = 300.0
"""A server that asks for more is taken as down once the attempts are used up."""
REQUEST_SECONDS = 120.0
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class EndpointPolicy:
    """Asks ``{base_url}/chat/completions``.

    Args:
        base_url: e.g. ``http://localhost:8000/v1``.
        model: the model's name at the endpoint.
        in_flight: connections at most.
        first_delay: seconds before the first retry; later ones double, with jitter.
        request_seconds: timeout of one attempt.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        in_flight: int,
        *,
        first_delay: float = FIRST_DELAY,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        key = os.environ.get(KEY_VARIABLE)
        self._url = base_url.rstrip("/")
        self._model = model
        self._first_delay = first_delay
        self._client = httpx.AsyncClient(
            # Waiting for one of our own connections is no fault of the server.
            timeout=httpx.Timeout(request_seconds, connect=10.0, pool=None),
            limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._jitter = random.Random()

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
            response = await self._client.get(f"{self._url}/models")
        except httpx.HTTPError as fault:
            kind = type(fault).__name__
            raise UserError(
                f"Nothing answers at {self._url} ({kind}): start the server, or mend --endpoint."
            ) from None
        if response.status_code in {401, 403}:
            raise UserError(f"{self._url} refuses the key: set {KEY_VARIABLE} in the environment.")

    async def complete(self, request: Request) -> Completion:
        """Draw one completion; see ``Policy.complete``."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": _chat_messages(request),
            "max_tokens": request.sampling.max_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.seed,
        }
        if request.tools:
            body["tools"] = list(request.tools)
        return _completion(await self._post(body))

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        delay = self._first_delay
        for attempt in range(1, ATTEMPTS + 1):
            wait = min(delay, LONGEST_DELAY) * self._jitter.uniform(0.5, 1.5)
            try:
                response = await self._client.post(f"{self._url}/chat/completions", json=body)
            except httpx.TimeoutException:
                failure = RolloutError("timeout", f"No answer in time after {attempt} attempts.")
            except httpx.HTTPError as fault:
                failure = RolloutError("endpoint", f"{type(fault).__name__} after {attempt} attempts.")
            else:
                if response.status_code == 200:
                    value = _json_object(response)
                    if value is not None:
                        return value
                    failure = RolloutError("endpoint", "The answer holds no choice, or is no JSON.")
                elif response.status_code in RETRIED_STATUS:
                    failure = RolloutError(
                        "endpoint", f"HTTP {response.status_code} after {attempt} attempts."
                    )
                    wait = max(wait, min(_retry_after(response), LONGEST_RETRY_AFTER))
                else:
                    raise _refusal(response)
            if attempt < ATTEMPTS:
                await asyncio.sleep(wait)
                delay *= 2
        raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    """The body, where it is an object with a choice that holds a message; else None."""
    try:
        value = response.json()
    except ValueError:
        return None
    match value:
        case {"choices": [{"message": dict()}, *_]}:
            return dict(value)
    return None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks us to wait, which it gives as a number or as a date; 0 if it does not."""
    text = response.headers.get("retry-after", "0")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a time zone
        return 0.0


def _refusal(response: httpx.Response) -> RolloutError:
    text = " ".join(response.text.split())[:300]
    if "context" in text and ("length" in text or "maximum" in text):
        return RolloutError("context_length", text)
    return RolloutError("endpoint", f"HTTP {response.status_code}: {text}")


def _chat_messages(request: Request) -> list[dict[str, Any]]:
    """The chat API's form; calls get ids by position, as results follow their calls in order."""
    rendered: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for position, message in enumerate(request.messages):
        item: dict[str, Any] = {"role": message.role, "content": message.content}
        if request.tools and message.tool_calls:
            open_calls = [f"call_{position}_{index}" for index in range(len(message.tool_calls))]
            item["tool_calls"] = [
                _chat_call(name, call) for name, call in zip(open_calls, message.tool_calls, strict=True)
            ]
        elif message.role == "tool":
            if request.tools and open_calls:
                item["tool_call_id"] = open_calls.pop(0)
            else:
                # Text formats make no API calls, and servers refuse results without one.
                item = {"role": "user", "content": message.content}
        rendered.append(item)
    return rendered


def _chat_call(name: str, call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _completion(value: dict[str, Any]) -> Completion:
    choice = value["choices"][0]
    message = choice["message"]
    usage = value.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    text = message.get("content")
    return Completion(
        text=text if isinstance(text, str) else "",
        tool_calls=_tool_calls(message.get("tool_calls")),
        token_ids=None,
        finish_reason=str(choice.get("finish_reason") or "stop"),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        prompt_digest=None,
    )


def _tool_calls(value: Any) -> tuple[ToolCall, ...]:
    calls = []
    for item in value if isinstance(value, list) else []:
        match item:
            case {"function": {"name": str(name), "arguments": str(text)}}:
                try:
                    arguments = json.loads(text)
                except (ValueError, RecursionError):
                    arguments = None
                # Arguments that are no object reach the world as an unknown parameter, and are refused there.
                calls.append(
                    ToolCall(name, arguments if isinstance(arguments, dict) else {"arguments": text})
                )
    return tuple(calls)
