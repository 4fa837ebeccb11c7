# What `cmake --install` puts where, and the Debian package of it (cpack -G DEB).
set(package ${CMAKE_CURRENT_BINARY_DIR}/package)

install(TARGETS pcachefs RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
# mount(8) and umount(8) look for these in /sbin alone: with another prefix than /usr they are to be linked there.
foreach(helper mount.pcachefs mount.fuse.pcachefs umount.fuse.pcachefs)
  file(MAKE_DIRECTORY ${package})
  file(CREATE_LINK pcachefs ${package}/${helper} SYMBOLIC)
  install(FILES ${package}/${helper} DESTINATION ${CMAKE_INSTALL_SBINDIR})
endforeach()
# The prefix is known when it is installed.
install(CODE "set(SBINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}\")
  configure_file(\"${CMAKE_CURRENT_LIST_DIR}/pcachefs@.service.in\" \"${package}/pcachefs@.service\" @ONLY)")
install(FILES ${package}/pcachefs@.service DESTINATION lib/systemd/system)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN *.md PATTERN *.svg
        PATTERN man EXCLUDE)
install(DIRECTORY examples/monitoring DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # tests are built, but not installed
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the pcachefs maintainers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "persistent memory as a write-back cache of slow block devices")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A cache in user space that shows each cached device as one file in a FUSE
mount. On persistent memory an acknowledged write survives power loss; the
slow device alone always holds a crash-consistent past state.")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS fuse3)
foreach(script postinst prerm postrm)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${script}.sh ${package}/${script} COPYONLY)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${package}/${script})
endforeach()
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
