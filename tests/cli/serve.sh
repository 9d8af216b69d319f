#!/bin/sh
# flux1 serve over real connections (serve.py). The server's own process, python3's standard library, no other client.
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
if [ "$HAS_SERVE" != ON ]; then
    refused 1 'this build has no flux1 serve.*libmicrohttpd-dev' serve --model "$tiny"
    finish
fi
refused 2 'api-key.*empty' serve --model "$tiny" --api-key=
refused 1 'no such folder' serve --model "$tiny" --port 0 --loras "$work/nowhere"
refused 1 'nowhere: there is no such folder' serve --model "$tiny" --port 0 --models "$work/nowhere"
refused 1 'cannot listen on 192.0.2.1.*no such address.*--host' serve --model "$tiny" --host 192.0.2.1
: >"$work/plain"
refused 1 'plain: exists and is not a folder; move it away' serve --model "$tiny" --port 0 --jobs "$work/plain"
refused 1 'plain: exists and is not a socket; move it away' serve --model "$tiny" --socket "$work/plain"
refused 1 'none/socket: the folder of this socket does not exist' serve --model "$tiny" --socket "$work/none/socket"
refused 1 'plain: is not a folder' serve --model "$tiny" --port 0 --loras "$work/plain"
for name in http://my.proxy my.proxy:8443 'a, b' 'a,,b' '' 'a,'; do
    refused 2 '^flux1: --allow-host: ".*" is no name of a host' serve --model "$tiny" --port 0 --allow-host "$name"
done
refused 2 '--workers: it takes the place of --device' serve --model "$tiny" --port 0 --workers cpu --device cpu
refused 2 '--workers: it takes the place of .*--mesh' serve --model "$tiny" --port 0 --workers cpu --mesh 1x2
refused 2 '--workers: 64 devices at most' serve --model "$tiny" --port 0 --workers "cpu$(printf ',cpu%.0s' $(seq 64))"
printf '# none\n \t\r\n' >../keys
refused 2 '--api-key-file ../keys: there is no key in it' serve --model "$tiny" --port 0 --api-key-file ../keys
refused 2 '--access-log ../keys would replace the file of --api-key-file' serve --model "$tiny" --port 0 --access-log ../keys --api-key-file ../keys
seq 257 >../keys
refused 2 'at most 256 keys' serve --model "$tiny" --port 0 --api-key-file ../keys
refused 2 'host: the argument is empty' serve --model "$tiny" --port 0 --host ''
refused 2 'queue 0: must be' serve --model "$tiny" --queue 0
flux1 serve --model "$work/nowhere" --port 0
expect_status 1 "a model that is not there"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
python3 -B "$here/serve.py" "$FLUX1" "$tiny" "$PIPELINES/../files/lora/kohya.safetensors" "$work/serve" || fail "serve.py"
finish
