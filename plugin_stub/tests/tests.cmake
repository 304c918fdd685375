# What the pytest suite loads (one shared library with the C interfaces of capi_*.cpp) and runs (one program a file of
# programs/*.cpp). Included by the CMakeLists above.
file(GLOB capi_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/capi_*.cpp)
if(capi_sources)
  add_library(attacca_test SHARED ${capi_sources})
  target_link_libraries(attacca_test PRIVATE attacca_core)
endif()
file(GLOB program_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/programs/*.cpp)
foreach(source ${program_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE attacca_core ${CMAKE_DL_LIBS})
endforeach()

# The scriptable CLAP host and the plugin that proves it. They need no part of ours, only CLAP's headers as DPF ships them.
find_path(ATTACCA_CLAP_HEADERS clap/entry.h
  PATHS ${ATTACCA_DPF} ${DPF_DIR} /usr/share/dpf /usr/local/share/dpf PATH_SUFFIXES distrho/src NO_DEFAULT_PATH)
if(ATTACCA_CLAP_HEADERS AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  file(GLOB clap_host_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/clap_host*.cpp)
  set(clap_probe_source ${CMAKE_CURRENT_LIST_DIR}/clap_host_probe.cpp)
  list(REMOVE_ITEM clap_host_sources ${clap_probe_source})
  add_executable(clap_host ${clap_host_sources})
  set_target_properties(clap_host PROPERTIES ENABLE_EXPORTS ON)  # its malloc and locks stand before the C library's
  target_link_libraries(clap_host PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  add_library(clap_probe MODULE ${clap_probe_source})
  set_target_properties(clap_probe PROPERTIES PREFIX "" SUFFIX ".clap")
  foreach(target clap_host clap_probe)
    target_include_directories(${target} SYSTEM PRIVATE ${ATTACCA_CLAP_HEADERS})
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wconversion)
  endforeach()
else()
  message(STATUS "no CLAP headers (DPF): the scriptable CLAP host is not built")
endif()
