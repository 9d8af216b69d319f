/* A build without libcurl. */
#include "fetch/fetch.h"

flux1_status fetch_repository(const fetch_request *request, fetch_result *out, flux1_error *err)
{
    *out = (fetch_result){0};
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "this flux1 was built without libcurl and cannot fetch: install libcurl4-openssl-dev and "
                     "libssl-dev and build it again, or fetch %s by other means: hf download %s --revision %s",
                     request->name->repository, request->name->repository, request->name->revision);
}
