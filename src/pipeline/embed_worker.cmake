# cmake -DIN=flux1_ttnn.py -DOUT=ttnn_script.c -P embed_worker.cmake: the worker's Python as bytes of C, so that a library always has the worker of its version.
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/embed.cmake)
embed(${IN} ${OUT} pipeline/ttnn_worker.h ttnn_script "")
