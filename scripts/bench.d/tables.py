"""Tables of results, as data and as Markdown.

A table is `{"key", "title", "note", "columns": [[key, heading, format]], "rows": [{"name", ...}]}`. A row that has
`why` in place of values was not measured, and says so; `aside` is a remark beside its name.
"""
RATIOS = [["x_floor", "× floor", ".2f"], ["x_crun", "× crun", ".2f"]]
LATENCY = [["median", "median ms", ".2f"], ["min", "min", ".2f"], ["p95", "p95", ".2f"], ["cpu", "CPU ms", ".2f"]]
FAILED = [["failed", "failed", "d"]]


def ratios(rows, value="median"):
    """Adds what each row is of the floor's and of crun's, where they are in the table."""
    for other in ("floor", "crun"):
        base = next((row.get(value) for row in rows if row["name"] == other), None)
        for row in rows:
            if base and value in row:
                row[f"x_{other}"] = row[value] / base
    return rows


def latency(key, title, rows, note=""):
    return {"key": key, "title": title, "note": note, "columns": LATENCY + RATIOS + FAILED, "rows": ratios(rows)}


def cell(row, key, form):
    value = row.get(key)
    return "" if value is None else format(value, form)


def markdown(table):
    lines = [f"### {table['title']}", ""]
    if table["note"]:
        lines += [table["note"], ""]
    columns = table["columns"]
    lines.append(f"| {table.get('of', 'runtime')} | " + " | ".join(heading for _, heading, _ in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for row in table["rows"]:
        if "why" in row:
            why = row["why"].replace("|", "\\|").replace("`", "'")
            lines.append(f"| {row['name']} | not measured: {why} " + "| " * (len(columns) - 1) + "|")
        else:
            name = row["name"] + (f" ({row['aside']})" if "aside" in row else "")
            lines.append(f"| {name} | " + " | ".join(cell(row, key, form) for key, _, form in columns) + " |")
    return "\n".join(lines) + "\n"
