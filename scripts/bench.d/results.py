"""What the parts found: their tables, by key, in the order of the document."""
import json, pathlib

PARTS = ("run", "run-v1", "steps", "crowd", "output", "engines", "costs", "inside")


def read(directory):
    found = {}
    for part in PARTS:
        file = pathlib.Path(directory) / f"{part}.json"
        if file.exists():
            found |= {table["key"]: table for table in json.loads(file.read_text())["tables"]}
    return found


def value(found, table, name, key):
    """One number, or None."""
    rows = found.get(table, {}).get("rows", [])
    return next((row.get(key) for row in rows if row["name"] == name), None)
