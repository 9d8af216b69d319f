#include "pipeline/folder.h"

static const char *const FOLDERS[] = {
#define ROW(name, folder, stem) folder,
    COMPONENT_MAP(ROW)
#undef ROW
};

static const char *const STEMS[] = {
#define ROW(name, folder, stem) stem,
    COMPONENT_MAP(ROW)
#undef ROW
};

const char *component_folder(component c) { return FOLDERS[c]; }
const char *component_stem(component c) { return STEMS[c]; }

model_part component_part(component c)
{
    static const model_part parts[COMPONENTS] = {[COMPONENT_CLIP] = MODEL_CLIP,
                                                 [COMPONENT_T5] = MODEL_T5,
                                                 [COMPONENT_DIT] = MODEL_TRANSFORMER,
                                                 [COMPONENT_VAE] = MODEL_VAE};
    return parts[c];
}
