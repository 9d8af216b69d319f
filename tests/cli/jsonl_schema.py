"""jsonl_schema.py SCHEMA request|answer FILE: checks each line of FILE; prints what does not fit and ends with 1 then.
jsonl_schema.py SCHEMA request|answer --keys: the names of the properties.

With the package jsonschema where it is installed, otherwise by the rules below, which are the ones the schema uses."""
import json
import sys

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def resolve(root, reference):
    for part in reference.split("/")[1:]:
        root = root[part]
    return root


def problems(root, schema, value, where):
    if "$ref" in schema:
        yield from problems(root, resolve(root, schema["$ref"]), value, where)
    if "anyOf" in schema and all(any(problems(root, one, value, where)) for one in schema["anyOf"]):
        yield f"{where}: fits none of anyOf"
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(is_type(value, name) for name in names):
        yield f"{where}: not of type {names}"
    if "enum" in schema and not any(value == e and type(value) is type(e) for e in schema["enum"]):
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "minimum" in schema and is_type(value, "number") and value < schema["minimum"]:
        yield f"{where}: below {schema['minimum']}"
    if "maximum" in schema and is_type(value, "number") and value > schema["maximum"]:
        yield f"{where}: above {schema['maximum']}"
    if isinstance(value, dict):
        for key in schema.get("required", []):
            if key not in value:
                yield f"{where}: no {key}"
        for key, member in value.items():
            rule = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            if rule is False:
                yield f"{where}: unknown {key}"
            elif rule is not True:
                yield from problems(root, rule, member, f"{where}.{key}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from problems(root, schema["items"], item, f"{where}[{i}]")


def checker(root, name):
    own = lambda value: list(problems(root, root["$defs"][name], value, name))
    try:
        import jsonschema
    except ImportError:
        return own
    whole = {"$ref": f"#/$defs/{name}", "$defs": root["$defs"]}
    theirs = jsonschema.Draft202012Validator(whole)
    return lambda value: [e.message for e in theirs.iter_errors(value)] + own(value)


def main():
    root = json.load(open(sys.argv[1]))
    if sys.argv[3] == "--keys":
        print("\n".join(sorted(root["$defs"][sys.argv[2]]["properties"])))
        return 0
    check, bad = checker(root, sys.argv[2]), 0
    for number, line in enumerate(open(sys.argv[3]), 1):
        for problem in check(json.loads(line)) if line.strip() else []:
            print(f"line {number}: {problem}")
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
