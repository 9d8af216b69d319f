/* The cache of the Hugging Face hub on disk, as huggingface_hub lays it out, so that both find each other's files:
 *
 *     ROOT/models--org--name/refs/main                          the commit of a branch or tag, 40 hexadecimal digits
 *                            snapshots/COMMIT/vae/config.json   relative links into blobs
 *                            blobs/ETAG
 *
 * Nothing here writes, and only hub_commit and hub_snapshot look at the disk. */
#ifndef FLUX1_BASE_HUB_H
#define FLUX1_BASE_HUB_H

#include "base/status.h"

#include <stdbool.h>

#define HUB_NAME_MAX 96      /* bytes of an organisation's and of a repository's name */
#define HUB_REVISION_MAX 200 /* bytes of a revision */
#define HUB_PATH_MAX 1024    /* bytes of a file's path in a repository */
#define HUB_COMMIT 40        /* digits of a commit */

/* "org/name@revision" taken apart. */
typedef struct hub_name {
    char repository[2 * HUB_NAME_MAX + 2]; /* "org/name" */
    char revision[HUB_REVISION_MAX + 1];   /* a branch, tag or commit; "main" if none was given */
} hub_name;

/* Takes "org/name" or "org/name@revision" apart, by huggingface_hub's rules for names and git's for branches: letters,
 * digits and "._-", no ".." or "--" in a name; a revision may have parts ("refs/pr/1"). FLUX1_ERR_ARGUMENT names what
 * is wrong. */
flux1_status hub_name_parse(const char *text, hub_name *out, flux1_error *err);

/* Whether a path of a repository's listing can be a file in a snapshot: relative, parts separated by single slashes,
 * none of them "." or "..", no control characters or backslashes, UTF-8. */
bool hub_path_valid(const char *path);

/* Whether these are the 40 digits of a commit (lower case). */
bool hub_is_commit(const char *text);

/* The cache's folder, malloc'd: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else hub in the hub's home: HF_HOME, else
 * huggingface in XDG_CACHE_HOME, else ~/.cache/huggingface. Set to nothing counts as not set. "~", "~/…", $NAME and
 * ${NAME} are expanded, as huggingface_hub does. FLUX1_ERR_IO if no home folder is known, FLUX1_ERR_MEMORY. */
flux1_status hub_cache_root(char **out, flux1_error *err);

/* The file with the user's token: HF_TOKEN_PATH, else token in the hub's home; malloc'd. Errors as above. */
flux1_status hub_token_path(char **out, flux1_error *err);

/* Whether the variable is set to 1, on, yes or true, in any case, which is what huggingface_hub takes for a yes. */
bool hub_is_true(const char *variable);

/* ROOT/models--org--name, malloc'd; NULL when out of memory. */
char *hub_repository_folder(const char *root, const hub_name *name);

/* The commit that a revision is in a repository's folder: itself if it is one, else what refs/REVISION says.
 * FLUX1_ERR_IO if the cache does not have it, FLUX1_ERR_FORMAT if the file is no commit. */
flux1_status hub_commit(const char *repository_folder, const char *revision, char out[HUB_COMMIT + 1],
                        flux1_error *err);

/* The folder of a cached snapshot, malloc'd; files in it may be missing. FLUX1_ERR_IO if the cache does not have it;
 * the rest as hub_commit. */
flux1_status hub_snapshot(const char *root, const hub_name *name, char **out, flux1_error *err);

#endif
