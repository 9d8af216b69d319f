/* A rank's calls written down (ops/script.h), exchanges between ranks as lines on tensors. */
#ifndef FLUX1_MESH_SCRIPT_RECORD_H
#define FLUX1_MESH_SCRIPT_RECORD_H

#include "mesh/mesh.h"
#include "ops/script.h"

/* Runs body as rank `rank` would run it, on shapes; its calls go to *out (zeroed; the caller's to free), or where the
 * body says by ops_script_into. config: c->arithmetic and so on are not read; `cancel` is. FLUX1_ERR_UNSUPPORTED names
 * what a script cannot have. */
flux1_status mesh_script_record(const mesh_config *c, const ops_config *config, int rank, mesh_body *body, void *arg,
                                script *out, flux1_error *err);

#endif
