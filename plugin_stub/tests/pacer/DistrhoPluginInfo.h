// The pacer: a pass-through that makes a fast renderer keep real time. For tests only; never installed.
#pragma once

#define DISTRHO_PLUGIN_BRAND "Attacca tests"
#define DISTRHO_PLUGIN_NAME "Attacca Pacer"
#define DISTRHO_PLUGIN_URI "urn:attacca:pacer"
#define DISTRHO_PLUGIN_NUM_INPUTS 2
#define DISTRHO_PLUGIN_NUM_OUTPUTS 2
#define DISTRHO_PLUGIN_IS_RT_SAFE 0
