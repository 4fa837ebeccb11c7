# What reaches the backing is recorded and looked at; see witness.sh and kept.sh. 77 means skipped, with the reason
# printed.
add_executable(witness_record_fuse ${CMAKE_CURRENT_LIST_DIR}/record_fuse.cc)
target_include_directories(witness_record_fuse PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(witness_record_fuse PRIVATE PkgConfig::FUSE3)
add_executable(witness_replay ${CMAKE_CURRENT_LIST_DIR}/replay.cc)
target_include_directories(witness_replay PRIVATE ${CMAKE_SOURCE_DIR})
add_test(NAME witness_ext4 COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/witness.sh -f ext4)
add_test(NAME witness_xfs COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/witness.sh -f xfs)
add_test(NAME witness_kept COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/kept.sh)
set_tests_properties(witness_ext4 witness_xfs witness_kept PROPERTIES
  ENVIRONMENT "PCACHEFS=$<TARGET_FILE:pcachefs>;WITNESS_TOOLS=$<TARGET_FILE_DIR:witness_replay>"
  SKIP_RETURN_CODE 77 RUN_SERIAL TRUE TIMEOUT 600)
