# Tests through the real mount. Each is a script of its own; 77 means skipped, with the reason printed.
file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.sh)
list(FILTER scripts EXCLUDE REGEX "/lib\\.sh$")
foreach(script ${scripts})
  get_filename_component(name ${script} NAME_WE)
  add_test(NAME e2e_${name} COMMAND bash ${script})
  set_tests_properties(e2e_${name} PROPERTIES
    ENVIRONMENT "PCACHEFS=$<TARGET_FILE:pcachefs>" SKIP_RETURN_CODE 77 RUN_SERIAL TRUE TIMEOUT 600)
endforeach()
