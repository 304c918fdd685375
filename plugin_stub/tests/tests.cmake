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
