# What is judged by reading the tree: include rules, and rules for text. Takes a second.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(python ${Python3_EXECUTABLE} -B)  # leaves no compiled files in the tree
add_test(NAME tidy_include_rules COMMAND ${python} ${CMAKE_CURRENT_LIST_DIR}/include_rules.py ${CMAKE_SOURCE_DIR})
add_test(NAME tidy_include_rules_self_test COMMAND ${python} ${CMAKE_CURRENT_LIST_DIR}/include_rules.py --self-test)
add_test(NAME tidy_text COMMAND ${python} ${CMAKE_CURRENT_LIST_DIR}/text_rules.py ${CMAKE_SOURCE_DIR})
add_test(NAME tidy_mutations COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/mutation/mutate.py --check)
set_tests_properties(tidy_include_rules tidy_include_rules_self_test tidy_text tidy_mutations PROPERTIES TIMEOUT 60)
