"""The receptionist's tools: appointments in an SQLite file.

The file is `appointments.sqlite3` in the working directory, or what BARGEIN_CALENDAR names. Appointments
are half an hour long, from 9:00 to 17:00 on working days. What has changed the calendar stays known to
the model whatever interrupts it ("keep"); what only looks is of no use after an interruption ("finish").
"""

from __future__ import annotations

import datetime
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..processors.tools import tool

OPENS, CLOSES = datetime.time(9), datetime.time(17)
LENGTH = datetime.timedelta(minutes=30)
FILE = "BARGEIN_CALENDAR"
PATIENCE_S = 10.0  # how long a call waits for another that is changing the calendar


@tool(on_interruption="finish")
def today() -> str:
    """Tell today's date and weekday."""
    return datetime.datetime.now().astimezone().strftime("%A, %Y-%m-%d")


@tool(on_interruption="finish")
def free_times(day: datetime.date) -> list[str]:
    """List the times of a day at which an appointment can begin.

    Args:
        day: As YYYY-MM-DD.
    """
    with _calendar() as calendar:
        taken = {
            row[0] for row in calendar.execute("SELECT time FROM appointments WHERE day = ?", (str(day),))
        }
    return [time for time in _times(day) if time not in taken]


@tool(on_interruption="keep")
def book(name: str, day: datetime.date, time: datetime.time) -> str:
    """Book an appointment.

    Args:
        name: The caller's name.
        day: As YYYY-MM-DD.
        time: As HH:MM.
    """
    with _calendar() as calendar:
        return _put(calendar, name, day, time) or f"Booked for {name} on {day} at {time:%H:%M}."


@tool(on_interruption="keep")
def move(name: str, from_day: datetime.date, to_day: datetime.date, to_time: datetime.time) -> str:
    """Move a caller's appointment to another time.

    Args:
        name: The caller's name.
        from_day: The day of the appointment, as YYYY-MM-DD.
        to_day: The new day, as YYYY-MM-DD.
        to_time: The new time, as HH:MM.
    """
    with _calendar() as calendar:
        removed = _remove(calendar, name, from_day)
        if removed is None:
            return f"{name} has no appointment on {from_day}."
        problem = _put(calendar, name, to_day, to_time)
        if problem is not None:
            calendar.rollback()
            return f"{problem} The appointment on {from_day} at {removed} stays."
        return f"Moved from {from_day} at {removed} to {to_day} at {to_time:%H:%M}."


@tool(on_interruption="keep")
def cancel(name: str, day: datetime.date) -> str:
    """Cancel a caller's appointment.

    Args:
        name: The caller's name.
        day: Of the appointment, as YYYY-MM-DD.
    """
    with _calendar() as calendar:
        removed = _remove(calendar, name, day)
        return (
            f"{name} has no appointment on {day}." if removed is None else f"Cancelled, {day} at {removed}."
        )


@contextmanager
def _calendar() -> Iterator[sqlite3.Connection]:
    """The calendar, for one change: all of it or, on an error, nothing."""
    path = os.environ.get(FILE) or "appointments.sqlite3"
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as calendar, calendar:
        calendar.execute(
            "CREATE TABLE IF NOT EXISTS appointments"
            "(day TEXT, time TEXT, name TEXT COLLATE NOCASE, PRIMARY KEY (day, time))"
        )
        yield calendar


def _put(calendar: sqlite3.Connection, name: str, day: datetime.date, time: datetime.time) -> str | None:
    """Add an appointment; returns why that is not possible, if it is not."""
    if f"{time:%H:%M}" not in _times(day):
        return f"There are no appointments on {day:%A}, {day}, at {time:%H:%M}."
    try:
        calendar.execute("INSERT INTO appointments VALUES (?, ?, ?)", (str(day), f"{time:%H:%M}", name))
    except sqlite3.IntegrityError:
        return f"{day} at {time:%H:%M} is taken."
    return None


def _remove(calendar: sqlite3.Connection, name: str, day: datetime.date) -> str | None:
    """Remove an appointment; returns its time."""
    found = calendar.execute(
        "DELETE FROM appointments WHERE name = ? AND day = ? RETURNING time", (name, str(day))
    ).fetchall()
    return str(found[0][0]) if found else None


def _times(day: datetime.date) -> list[str]:
    """When appointments can begin."""
    times: list[str] = []
    at, end = datetime.datetime.combine(day, OPENS), datetime.datetime.combine(day, CLOSES)
    while at + LENGTH <= end and day.weekday() < 5:
        times.append(f"{at:%H:%M}")
        at += LENGTH
    return times
