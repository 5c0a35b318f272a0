# SPDX-License-Identifier: MIT
# What every target of this project shares: warnings, sanitizers, generators.

function(m4_target target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wpointer-arith
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual
      -Wconversion -Wno-sign-conversion
      -Wno-restrict> # GCC 12 takes "text" + std::string for an overlapping copy (GCC bug 105651)
    $<$<BOOL:${M4_WERROR}>:-Werror>)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE _FILE_OFFSET_BITS=64)
  if(M4_SANITIZE STREQUAL "address")
    # GCC 12 with its own checks in place takes std::variant for uninitialised.
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined
      -fno-sanitize-recover=undefined -Wno-maybe-uninitialized)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  elseif(M4_SANITIZE STREQUAL "thread")
    target_compile_options(${target} PRIVATE -fsanitize=thread)
    target_link_options(${target} PRIVATE -fsanitize=thread)
  endif()
endfunction()

# m4_flatbuffers(<target> <schema.fbs>...): an INTERFACE library that carries
# <name>_generated.h of each schema on its include path.
find_program(FLATC flatc REQUIRED)
function(m4_flatbuffers target)
  set(dir ${CMAKE_CURRENT_BINARY_DIR}/generated)
  set(headers)
  foreach(schema ${ARGN})
    get_filename_component(name ${schema} NAME_WE)
    set(header ${dir}/${name}_generated.h)
    add_custom_command(OUTPUT ${header}
      COMMAND ${FLATC} --cpp --scoped-enums --cpp-std c++17 --no-prefix
              -o ${dir} ${CMAKE_CURRENT_SOURCE_DIR}/${schema}
      DEPENDS ${schema} VERBATIM)
    list(APPEND headers ${header})
  endforeach()
  add_custom_target(${target}_schemas DEPENDS ${headers})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_schemas)
  target_include_directories(${target} SYSTEM INTERFACE ${dir})
  target_link_libraries(${target} INTERFACE PkgConfig::FLATBUFFERS)
endfunction()
