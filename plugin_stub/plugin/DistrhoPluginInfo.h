// What DPF must know of the plugin, of all variants.
#pragma once

#define DISTRHO_PLUGIN_BRAND "Attacca"
#define DISTRHO_PLUGIN_BRAND_ID Attc
#if ATTACCA_INSTRUMENT
#define DISTRHO_PLUGIN_NAME "Attacca Instrument"
#define DISTRHO_PLUGIN_URI "urn:attacca:instrument"
#define DISTRHO_PLUGIN_CLAP_ID "org.attacca.instrument"
#define DISTRHO_PLUGIN_UNIQUE_ID AtIn
#define DISTRHO_PLUGIN_CLAP_FEATURES "instrument", "sampler", "stereo"
#define DISTRHO_PLUGIN_VST3_CATEGORIES "Instrument|Sampler|Stereo"
#define DISTRHO_PLUGIN_LV2_CATEGORY "lv2:InstrumentPlugin"
#define DISTRHO_PLUGIN_IS_SYNTH 1
#elif ATTACCA_MONO
#define DISTRHO_PLUGIN_NAME "Attacca Mono"
#define DISTRHO_PLUGIN_URI "urn:attacca:effect-mono"
#define DISTRHO_PLUGIN_CLAP_ID "org.attacca.effect-mono"
#define DISTRHO_PLUGIN_UNIQUE_ID AtMo
#define DISTRHO_PLUGIN_CLAP_FEATURES "audio-effect", "sampler", "mono"
#define DISTRHO_PLUGIN_VST3_CATEGORIES "Fx|Generator|Mono"
#define DISTRHO_PLUGIN_LV2_CATEGORY "lv2:GeneratorPlugin"
#define DISTRHO_PLUGIN_IS_SYNTH 0
#else
#define DISTRHO_PLUGIN_NAME "Attacca"
#define DISTRHO_PLUGIN_URI "urn:attacca:effect"
#define DISTRHO_PLUGIN_CLAP_ID "org.attacca.effect"
#define DISTRHO_PLUGIN_UNIQUE_ID AtFx
#define DISTRHO_PLUGIN_CLAP_FEATURES "audio-effect", "sampler", "stereo"
#define DISTRHO_PLUGIN_VST3_CATEGORIES "Fx|Generator|Stereo"
#define DISTRHO_PLUGIN_LV2_CATEGORY "lv2:GeneratorPlugin"
#define DISTRHO_PLUGIN_IS_SYNTH 0
#endif

#define DISTRHO_PLUGIN_NUM_INPUTS (2 - ATTACCA_MONO)
#define DISTRHO_PLUGIN_NUM_OUTPUTS (2 - ATTACCA_MONO)
#define DISTRHO_PLUGIN_IS_RT_SAFE 1
#define DISTRHO_PLUGIN_WANT_MIDI_INPUT 1
#define DISTRHO_PLUGIN_WANT_TIMEPOS 1
#define DISTRHO_PLUGIN_WANT_LATENCY 1
#define DISTRHO_PLUGIN_WANT_STATE 1
#define DISTRHO_PLUGIN_WANT_FULL_STATE 1
#define DISTRHO_PLUGIN_WANT_DIRECT_ACCESS ATTACCA_UI
#define DISTRHO_PLUGIN_HAS_UI ATTACCA_UI
#define DISTRHO_UI_USE_NANOVG 1
#define DISTRHO_UI_USER_RESIZABLE 1
#define DISTRHO_UI_DEFAULT_WIDTH 900
#define DISTRHO_UI_DEFAULT_HEIGHT 621
