// One bind_*.cpp for each topic; module.cpp calls them.
#pragma once
#include <pybind11/pybind11.h>

void bind_machine(pybind11::module_& m);
void bind_program(pybind11::module_& m);
