# Manual pages and completion, of which the executable itself says what commands and options there are.
include(GNUInstallDirs)
find_program(SCDOC scdoc REQUIRED)
set(man ${CMAKE_CURRENT_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${man})
foreach(page pcachefs.8 pcachefs.toml.5)
  add_custom_command(OUTPUT ${man}/${page}
    COMMAND ${CMAKE_COMMAND} -DPCACHEFS=$<TARGET_FILE:pcachefs> -DSCDOC=${SCDOC} -DPROJECT_VERSION=${PROJECT_VERSION}
            -DSOURCE=${CMAKE_CURRENT_LIST_DIR}/${page}.scd.in -DPAGE=${man}/${page}
            -P ${CMAKE_CURRENT_LIST_DIR}/make_page.cmake
    DEPENDS pcachefs ${CMAKE_CURRENT_LIST_DIR}/${page}.scd.in ${CMAKE_CURRENT_LIST_DIR}/make_page.cmake VERBATIM)
endforeach()
add_custom_command(OUTPUT ${man}/pcachefs.bash
  COMMAND pcachefs completion > ${man}/pcachefs.bash DEPENDS pcachefs VERBATIM)
add_custom_target(man ALL DEPENDS ${man}/pcachefs.8 ${man}/pcachefs.toml.5 ${man}/pcachefs.bash)

install(FILES ${man}/pcachefs.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES ${man}/pcachefs.toml.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
foreach(helper mount.pcachefs mount.fuse.pcachefs umount.fuse.pcachefs)
  file(WRITE ${man}/${helper}.8 ".so man8/pcachefs.8\n")
  install(FILES ${man}/${helper}.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
endforeach()
install(FILES ${man}/pcachefs.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME pcachefs)
