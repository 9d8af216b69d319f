#!/bin/sh
# The clients of clients.py, in a virtual environment that is kept in FOLDER for the next run. usage: clients.sh PYTHON FOLDER FLUX1 MODEL ADAPTER
# Skipped (77) where the packages cannot be had.
python=$1 folder=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    { "$python" -m venv "$folder" && timeout 300 "$folder/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 20 openai==3.57.0 webuiapi==0.9.17; } ||
        { echo "skipped: no virtual environment with the packages openai and webuiapi (is PyPI out of reach?)"; exit 77; }
    touch "$folder/ready"
fi
exec "$folder/bin/python" -B "$here/clients.py" "$@"
