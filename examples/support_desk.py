"""Returns and orders of a small shop: an agent of one's own in one file, with its tools, its world and its tasks.

josh iterate --env examples/support_desk.py:SupportDesk --profile quickstart
"""

import copy
import random
import sqlite3

ITEMS = ("lamp", "desk", "chair", "sofa", "shelf", "mirror", "stool", "clock")
REASONS = ("broken", "late", "too small", "too big")
DICE = random.Random(0)
STATES = ("paid", "sent", "delivered", "delivered")
ORDERS = {str(number): (DICE.choice(ITEMS), DICE.choice(STATES)) for number in range(100, 400)}
WISHES = {  # what customers say of their orders, the state that allows it, and what does it
    "status": ("I want to know where {} is.", None, ()),
    "cancel": ("I want to cancel {}.", "paid", ("cancel_order",)),
    "return": ("I want to return {}.", "delivered", ("return_order",)),
    "swap": ("I want another item for {}.", "delivered", ("return_order", "replace_order")),
}


class SupportDesk:
    """You serve the customers of a shop. Find the order first, and refuse what its state does not allow."""

    def reset(self, wanted: list[list[str]], **_) -> None:
        self.wanted = [tuple(call) for call in wanted]
        self.done = []
        self.shop = sqlite3.connect(":memory:", isolation_level=None)
        self.shop.execute("CREATE TABLE orders (number TEXT, item TEXT, state TEXT)")
        self.shop.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(n, *row) for n, row in ORDERS.items()])

    def find_order(self, order: str) -> dict:
        """Look an order up.

        Args:
            order: its number.
        """
        row = self.shop.execute("SELECT item, state FROM orders WHERE number = ?", [order]).fetchone()
        if row is None:
            raise ValueError("no such order")
        self.done.append(("find_order", order))
        return {"item": row[0], "state": row[1]}

    def cancel_order(self, order: str) -> dict:
        """Cancel an order that is paid and not yet sent.

        Args:
            order: its number.
        """
        return self._write("state", "cancelled", "find_order", ("cancel_order", order))

    def return_order(self, order: str, reason: str) -> dict:
        """Take a delivered order back.

        Args:
            order: its number.
            reason: why it comes back.
        """
        return self._write("state", "returned", "find_order", ("return_order", order, reason))

    def replace_order(self, order: str, item: str) -> dict:
        """Send another item for an order that was returned.

        Args:
            order: its number.
            item: what the customer gets.
        """
        return self._write("item", item, "return_order", ("replace_order", order, item))

    def refuse(self, order: str) -> dict:
        """Refuse what the state of an order does not allow.

        Args:
            order: its number.
        """
        return self._write("state", "refused", "find_order", ("refuse", order))

    def _write(self, column, value, before, call):
        if (before, call[1]) not in [one[:2] for one in self.done]:
            raise ValueError(f"{before} first")
        self.shop.execute(f"UPDATE orders SET {column} = ? WHERE number = ?", [value, call[1]])
        self.done.append(call)
        return {column: value}

    @property
    def milestones(self) -> list[bool]:
        return [call in self.done for call in self.wanted]

    @property
    def void(self) -> bool:  # something was changed that nobody wanted changed
        return any(call not in self.wanted for call in self.done if call[0] != "find_order")

    def get_reward(self) -> float:
        return 0.0 if self.void else sum(self.milestones) / len(self.wanted)

    @property
    def fork(self) -> "SupportDesk":  # a connection cannot be copied, the database behind it can
        twin = copy.copy(self)
        twin.done, twin.shop = list(self.done), sqlite3.connect(":memory:", isolation_level=None)
        self.shop.backup(twin.shop)
        return twin

    @classmethod
    def tasks(cls) -> list[dict]:
        return [task(order, state, random.Random(order)) for order, (_, state) in ORDERS.items()]


def task(order: str, state: str, dice: random.Random) -> dict:
    kind = dice.choice(tuple(WISHES))
    words, allowed, tools = WISHES[kind]
    told = {"order": order, "reason": dice.choice(REASONS), "item": dice.choice(ITEMS)}
    takes = {"return_order": ("order", "reason"), "replace_order": ("order", "item")}
    tools = ("find_order", *(tools if state == allowed or not allowed else ("refuse",)))
    calls = [{"tool": tool, "arguments": {name: told[name] for name in takes.get(tool, ("order",))}} for tool in tools]
    needed = dict.fromkeys(name for call in calls for name in call["arguments"])
    held = [{"say": f"The {name} is {told[name]}.", "when": name} for name in needed]  # until the desk asks for it
    opening = words.format(dice.choice((f"order {order}", "my order")))
    wanted = [[call["tool"], *call["arguments"].values()] for call in calls]
    return {"id": f"{kind}-{order}", "script": [opening, *held, "Is that done?"], "calls": calls, "wanted": wanted}
