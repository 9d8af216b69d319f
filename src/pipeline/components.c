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
