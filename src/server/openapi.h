/* /openapi.json: OpenAPI 3.1 out of the routes, the tables of fields, and schemas.json, which has the answers. */
#ifndef FLUX1_SERVER_OPENAPI_H
#define FLUX1_SERVER_OPENAPI_H

extern const char openapi_schemas[]; /* schemas.json: ends in NUL */

#endif
