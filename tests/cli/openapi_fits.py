"""Whether answers are as /openapi.json says. A member that it does not name does not fit either, but where it allows more."""
import re

from jsonl_schema import problems


def close(schema):
    """Objects whose members are named have no others."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)


class Description:
    def __init__(self, root):
        self.root = root
        self.seen = set()  # operations of which an answer was compared
        close(root["components"]["schemas"])
        self.paths = [(re.compile(re.escape(p).replace(r"\{name\}", "[^/]+") + "$"), p) for p in sorted(root["paths"], key=lambda p: "{" in p)]

    def unfit_of(self, schema, value):
        return list(problems(self.root, {"$ref": "#/components/schemas/" + schema}, value, schema))

    def unfit(self, method, path, status, kind, value):
        """What does not fit, one sentence each. kind: the content's type; value: JSON, or None."""
        path = path.split("?")[0]
        if method == "OPTIONS" and status == 204 and kind is None:
            return []  # a browser's preflight, no operation of the interface
        known = [p for pattern, p in self.paths if pattern.match(path) and method.lower() in self.root["paths"][p]]
        if not known:  # all that may come is the error
            return self.unfit_of("Error", value) if status >= 400 else [f"{method} {path}: not described"]
        answers = self.root["paths"][known[0]][method.lower()]["responses"]
        answer = answers.get(str(status), answers["default"] if status >= 400 else None)
        if answer is None:
            return [f"{method} {path}: {status} is not described"]
        self.seen.add((method, known[0]))
        content = answer.get("content", {})
        if kind is None:
            return [f"{method} {path}: no content, {list(content)} is described"] if content else []
        schema = content.get(kind.split(";")[0])
        if schema is None:
            return [f"{method} {path}: {kind} is not described"]
        return list(problems(self.root, schema.get("schema", {}), value, f"{method} {path} {status}")) if "json" in kind else []
