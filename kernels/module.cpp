// Makes the library a Python module too: so setuptools builds it and importlib finds it. Nothing is called through
// this; engine/native.py loads the file with ctypes.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    "_native",
    "Decoder steps on the CPU, through ctypes (kernels/step.h).",
    0,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&module_def); }
